"""Temporal activities: model turns, tool calls and what they need. They act, and decide no policy."""
