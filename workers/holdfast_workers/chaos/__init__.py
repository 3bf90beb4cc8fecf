"""`holdfast chaos`: many sessions, and everything that can go wrong going wrong at once, chosen by a seed.

Whether an effect happened is read from the services' own log, never from our tables: those are what is on trial.
"""
