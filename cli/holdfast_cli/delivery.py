"""What is said when a command reached a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast_cli.app import App

if TYPE_CHECKING:
    from holdfast_workers.client import Delivered

DELIVERED_FIELDS = {
    "session_id": "the session",
    "id": "id of the message or command; sending it again changes nothing",
    "how": "now, queued, kept (before it was asked for), or recorded (waits for a worker)",
    "detail": "more, in words",
}

ALSO = {
    "now": "",
    "queued": " (queued: a request is being worked on)",
    "kept": " (kept until it is asked for)",
    "recorded": " (recorded: no worker answers now, and it takes effect when one does)",
}


def tell(app: App, session_id: str, delivered: Delivered, done: str, **also: str) -> None:
    """Print the receipt of a command."""
    fields = {
        "session_id": session_id,
        "id": delivered.id,
        "how": delivered.how,
        "detail": delivered.detail,
        **also,
    }
    app.out.one(fields, done + ALSO[delivered.how], quiet=delivered.id)
