"""The lines that decide a call, ready to paste: ours, and Temporal's own for someone who has only that."""

from __future__ import annotations

import json
import shlex

from holdfast_cli.app import App

DEFAULT_ADDRESSES = ("localhost:7233", "127.0.0.1:7233")


def decide_lines(app: App, session_id: str, call: str) -> list[str]:
    """How to allow, and how to refuse."""
    session = shlex.quote(session_id)
    return [
        app.again(f"approve {session} {call}"),
        app.again(f'deny {session} {call} --reason "..."'),
    ]


def signal_line(app: App, session_id: str, call: str, digest: str) -> str:
    """The same approval as a plain signal, with Temporal's own command."""
    payload = shlex.quote(json.dumps({"call": call, "digest": digest}))
    parts = ["temporal workflow signal", f"--workflow-id {shlex.quote(session_id)}", "--name approve"]
    return " ".join([*parts, f"--input {payload}", *server_flags(app)])


def server_flags(app: App) -> list[str]:
    """`--address` and the like, where `temporal` would look elsewhere by itself."""
    settings = app.settings.temporal
    environ = settings.environ
    flags = {
        "--profile": settings.profile,
        "--address": settings.address,
        "--namespace": settings.namespace if settings.namespace != "default" else None,
    }
    if settings.address in DEFAULT_ADDRESSES and "TEMPORAL_ADDRESS" not in environ:
        flags["--address"] = None
    return [f"{name} {shlex.quote(value)}" for name, value in flags.items() if value]
