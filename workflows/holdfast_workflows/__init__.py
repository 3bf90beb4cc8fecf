"""Temporal workflows: they decide, and leave every effect to an activity.

Never imports an implementation; activities are reached through `holdfast.contracts`.
"""
