"""Sagas: what a request did, and how it is undone. Pure: no I/O."""
