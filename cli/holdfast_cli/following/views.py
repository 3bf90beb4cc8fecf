"""How a person sees a session: on a terminal, or in a pipe or log.

On a terminal tokens appear as they are written. In a pipe stdout carries the answer alone, once it is whole, and
stderr a line for each thing that happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import click

from holdfast_cli.following.events import Event
from holdfast_cli.output import Output, cell, clean, money, shortened, spent

MARKS = {"done": ("✓", "green"), "running": ("…", "cyan"), "unknown": ("?", "magenta")}
BAD = ("✗", "red")


class View(Protocol):
    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def view_of(out: Output, commands: Callable[[str, str], list[str]]) -> View:
    """The view that fits where the output goes.

    Args:
        commands: the command lines that decide a call, by (session id, call).
    """
    if out.machine:
        return Lines(out)
    if out.quiet:
        return Answer()
    return Terminal(commands) if out.live else Log(commands)


class Lines:
    """One JSON object a line; with `-o json` only the last one, `end`."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def show(self, event: Event) -> None:
        if self._out.format == "jsonl":
            self._out.event(event.record())
        elif event.name == "end":
            self._out.one({"session_id": event.session_id, **event.fields}, "")

    def close(self) -> None:
        pass


class Answer:
    """Only the answer."""

    def show(self, event: Event) -> None:
        print_answer(event)

    def close(self) -> None:
        pass


class Log:
    """A line on stderr for each thing that happens, and the answer on stdout."""

    def __init__(self, commands: Callable[[str, str], list[str]]) -> None:
        self._commands = commands

    def show(self, event: Event) -> None:
        for line in told(event, self._commands):
            click.echo(line, err=True)
        print_answer(event)

    def close(self) -> None:
        pass


class Terminal:
    """Tokens as they come, lines for the rest, and one moving line for the calls that run."""

    def __init__(self, commands: Callable[[str, str], list[str]]) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._commands = commands
        self._status = self._console.status("")
        self._spinning = False
        self._running: dict[str, str] = {}
        self._inside_line = False
        self._streamed: dict[int, str] = {}

    def show(self, event: Event) -> None:
        if event.name == "text":
            turn, text = event.fields["turn"], event.fields["text"]
            self._streamed[turn] = self._streamed.get(turn, "") + text
            self._write(text)
        elif event.name == "restart":
            self._streamed.pop(event.fields["turn"], None)
            self._line(click.style("the turn was lost with its worker, and begins anew", dim=True))
        elif event.name == "turn":
            self._finish(event.fields["turn"], event.fields["text"])
        else:
            self._other(event)

    def close(self) -> None:
        self._spin(False)
        self._end_line()

    def _finish(self, turn: int, text: str) -> None:
        """Show what of a recorded turn was not seen streaming: its chunks are gone as soon as it is recorded."""
        seen = self._streamed.pop(turn, "")
        if seen and not text.startswith(seen):
            self._end_line()
            seen = ""
        self._write(text[len(seen) :])
        self._end_line()

    def _other(self, event: Event) -> None:
        if event.name == "call":
            self._track(event.fields)
            if event.fields["state"] == "running":
                return
        for line in told(event, self._commands):
            self._line(line)

    def _track(self, fields: Mapping[str, Any]) -> None:
        """Keep the moving line at the calls that run."""
        if fields["state"] == "running":
            self._running[fields["call"]] = fields["tool"]
        else:
            self._running.pop(fields["call"], None)
        self._spin(bool(self._running))

    def _spin(self, wanted: bool) -> None:
        if wanted:
            self._end_line()
            self._status.update("running " + ", ".join(f"{call} {tool}" for call, tool in self._running.items()))
            self._status.start()
        elif self._spinning:
            self._status.stop()
        self._spinning = wanted

    def _write(self, text: str) -> None:
        if not text:
            return
        self._spin(False)
        self._console.file.write(clean(text))  # as it is: no markup, no wrapping at a width that may change
        self._console.file.flush()
        self._inside_line = not text.endswith("\n")

    def _line(self, line: str) -> None:
        from rich.text import Text

        self._end_line()
        self._console.print(Text.from_ansi(line), soft_wrap=True)

    def _end_line(self) -> None:
        if self._inside_line:
            self._console.file.write("\n")
            self._console.file.flush()
        self._inside_line = False


def print_answer(event: Event) -> None:
    """The answer to stdout, once there is one: what a session says before it waits for a person is none yet."""
    fields = event.fields
    if event.name == "end" and fields["answer"] and fields["status"] not in ("waiting", "held"):
        click.echo(clean(fields["answer"]))


def told(event: Event, commands: Callable[[str, str], list[str]]) -> list[str]:
    """An event in words, as lines; none for what is shown otherwise."""
    fields = event.fields
    match event.name:
        case "session":
            return [dim(f"session {event.session_id}, agent {fields['agent']}, model {cell(fields['model'])}")]
        case "status" if fields["status"] in ("held", "failed", "aborted"):
            return [click.style(f"{fields['status']}: {shortened(fields['reason'])}", fg="magenta")]
        case "message":
            return [click.style(f"{fields['by']}: {shortened(fields['text'])}", bold=True)]
        case "call" if fields["state"] != "running":
            return [call_line(fields)]
        case "approval":
            return approval_lines(event, commands)
        case "note":
            return [click.style(shortened(fields["text"]), fg="yellow")]
        case "question":
            question = click.style(f"asks: {shortened(fields['preview'])}", fg="yellow")
            return [question, f'  holdfast send {event.session_id} "..."']
        case "decision":
            reason = f": {shortened(fields['reason'])}" if fields["reason"] else ""
            return [f"{fields['outcome']} {fields['call']} by {fields['by']}{reason}"]
        case "end":
            return [dim(end_line(fields))]
        case _:
            return []


def call_line(fields: Mapping[str, Any]) -> str:
    mark, colour = MARKS.get(fields["state"], BAD)
    took = f" {fields['seconds']:.1f}s" if fields["seconds"] is not None else ""
    detail = f" {fields['state']}: {shortened(fields['detail'])}" if fields["detail"] and mark != "✓" else ""
    shown = f"{click.style(mark, fg=colour)} {fields['call']} {click.style(fields['tool'], bold=True)}"
    return f"{shown} {shortened(fields['preview'])}{took}{detail}"


def approval_lines(event: Event, commands: Callable[[str, str], list[str]]) -> list[str]:
    fields = event.fields
    until = f", until {cell(fields['expires_at'])}" if fields["expires_at"] else ""
    head = click.style(
        f"waits for a person{until}: {fields['call']} {fields['tool']} ({fields['tier']})", fg="yellow"
    )
    return [
        head,
        f"  {shortened(fields['preview'])}",
        *(f"  {line}" for line in commands(event.session_id, fields["call"])),
    ]


def end_line(fields: Mapping[str, Any]) -> str:
    cost = money(fields["usd"])
    reason = f" ({shortened(fields['reason'])})" if fields["reason"] else ""
    return f"{fields['status']}{reason}: {spent(fields['turns'], fields['calls'])}, {cost}"


def dim(text: str) -> str:
    return click.style(text, dim=True)
