"""The embedded stack of `holdfast up`: PostgreSQL, Temporal, the scripted model and workers on one machine.

Everything here listens on loopback only and keeps its state under one home directory. Nothing else in the
product depends on it: against servers run by somebody else the same workers need only addresses.
"""
