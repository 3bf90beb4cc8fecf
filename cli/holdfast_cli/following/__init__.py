"""Following a session live: what happens in it, as events, and how events are shown.

Watching costs the session nothing: everything is read from Postgres.
"""
