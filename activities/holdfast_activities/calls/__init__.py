"""Executing one call through the effect protocol: claim, dispatch, record, and what each ending means."""
