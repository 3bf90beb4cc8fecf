"""How a person sees a session: the same events on a terminal, in a pipe, as JSON lines."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from holdfast_cli.following.events import EVENTS, Event
from holdfast_cli.following.views import Answer, Lines, Log, Terminal
from holdfast_cli.output import Output

SESSION = "s-1"
END = {"status": "completed", "reason": "", "answer": "All done.", "turns": 2, "calls": 1, "usd": Decimal("0.01")}


def event(name: str, **fields: object) -> Event:
    return Event(name, SESSION, {**dict.fromkeys(EVENTS[name]), **fields})


def commands(session_id: str, call: str) -> list[str]:
    return [f"holdfast approve {session_id} {call}"]


def call(state: str, **fields: object) -> Event:
    known = {"call": "1.1", "tool": "find", "preview": "{}", "detail": "", "state": state}
    return event("call", **{**known, **fields})


ASKED = event(
    "approval",
    call="2.1",
    tool="refund",
    tier="irreversible",
    digest="d" * 64,
    preview='{"amount": 20}',
    expires_at=datetime(2026, 1, 2, tzinfo=UTC),
)


@pytest.fixture
def terminal(monkeypatch):
    """A terminal view, and what it drew."""
    drawn = io.StringIO()
    view = Terminal(commands)
    view._console = Console(file=drawn, force_terminal=True, highlight=False, width=100)
    view._status = view._console.status("")
    return view, drawn


def test_tokens_appear_as_they_are_written(terminal):
    view, drawn = terminal
    view.show(event("text", turn=1, text="Hel"))
    assert drawn.getvalue() == "Hel"
    view.show(event("text", turn=1, text="lo"))
    assert drawn.getvalue() == "Hello"


def test_a_turn_that_was_streamed_is_not_shown_again(terminal):
    view, drawn = terminal
    view.show(event("text", turn=1, text="Hello"))
    view.show(event("turn", turn=1, text="Hello"))
    view.show(event("end", **END))
    view.close()
    assert drawn.getvalue().count("Hello") == 1


def test_a_turn_nobody_saw_streaming_is_shown_whole(terminal):
    view, drawn = terminal
    view.show(event("turn", turn=1, text="Hello"))
    assert drawn.getvalue() == "Hello\n"


def test_a_turn_that_begins_anew_says_so(terminal):
    view, drawn = terminal
    view.show(event("text", turn=1, text="Hel"))
    view.show(event("restart", turn=1))
    view.show(event("text", turn=1, text="Hello"))
    assert "begins anew" in drawn.getvalue()
    assert drawn.getvalue().endswith("Hello")


def test_an_approval_shows_the_arguments_and_the_exact_command(terminal):
    view, drawn = terminal
    view.show(ASKED)
    assert '{"amount": 20}' in drawn.getvalue()
    assert "holdfast approve s-1 2.1" in drawn.getvalue()


def test_a_model_cannot_steer_the_terminal(terminal, capsys):
    view, drawn = terminal
    view.show(event("text", turn=1, text="a\x1b]0;owned\x07b\x1b[2Jc\x9b31md\r\n"))
    assert drawn.getvalue() == "a]0;ownedb[2Jc31md\n"
    Log(commands).show(call("failed", preview="\x1b[2J", detail="\x1b[31mred"))
    said = capsys.readouterr()
    assert "\x1b" not in said.err


def test_in_a_pipe_stdout_is_the_answer_and_nothing_else(capsys):
    view = Log(commands)
    for shown in (event("text", turn=1, text="All"), call("done", seconds=0.4), ASKED, event("end", **END)):
        view.show(shown)
    said = capsys.readouterr()
    assert said.out == "All done.\n"
    assert "1.1 find {} 0.4s" in said.err
    assert "holdfast approve s-1 2.1" in said.err


def test_quiet_prints_only_the_answer(capsys):
    view = Answer()
    for shown in (ASKED, event("end", **END)):
        view.show(shown)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("All done.\n", "")


def test_json_lines_are_one_event_each_with_every_documented_field(capsys):
    view = Lines(Output("jsonl"))
    shown = [event("text", turn=1, text="All"), ASKED, event("end", **END)]
    for each in shown:
        view.show(each)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["text", "approval", "end"]
    for line in lines:
        assert set(line) == {"event", "session_id", *EVENTS[line["event"]]}
    assert lines[1]["expires_at"] == "2026-01-02T00:00:00Z"


def test_json_is_one_document(capsys):
    view = Lines(Output("json"))
    for each in (event("text", turn=1, text="All"), event("end", **END)):
        view.show(each)
    assert json.loads(capsys.readouterr().out)["status"] == "completed"
