"""docs/cli.md, written from the commands themselves: `python -m holdfast_cli.reference > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from holdfast_cli.commanding import Command, LazyGroup
from holdfast_cli.exits import MEANINGS
from holdfast_cli.following.events import EVENTS
from holdfast_cli.root import cli

HEAD = """# The command line

Written by `python -m holdfast_cli.reference > docs/cli.md`; a test compares.

`holdfast COMMAND --help` says the same at the terminal. Results go to stdout, everything else to stderr. A session
is named by its id or any unique beginning of it.

Every command takes `-o text|json|jsonl`, `--json` (the same as `-o json`) and `-q`, and the options that say where
the servers are: `--profile --address --namespace --dsn --home --config` ([configuration](configuration.md)).
Times in JSON are ISO 8601 in UTC, durations seconds, money a decimal as text.
"""


def pages(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its whole name."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # it was just listed
        if isinstance(command, click.Group):
            yield from pages(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def reference() -> str:
    """The whole page."""
    codes = "\n".join(f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items())
    parts = [HEAD, f"## Exit codes\n\n| code | meaning |\n| --- | --- |\n{codes}\n"]
    assert isinstance(cli, LazyGroup)
    section = ""
    for path, command in pages(cli, "holdfast"):
        assert isinstance(command, Command)
        entry = cli.entries[path.split()[1]]
        if entry.section != section:
            section = entry.section
            parts.append(f"## {section}\n")
        parts.append(page(path, command))
    parts.append(events())
    return "\n".join(parts)


def events() -> str:
    """What a follower prints with `-o jsonl`."""
    lines = [
        "## Events",
        "",
        "`holdfast attach -o jsonl` and `holdfast run -o jsonl` print one object a line. Each has `event`, its",
        "kind, and `session_id`. New kinds and fields may come; skip what you do not know.",
        "",
        "| event | field | meaning |",
        "| --- | --- | --- |",
    ]
    for name, fields in EVENTS.items():
        lines += [f"| `{name}` | `{field}` | {meaning} |" for field, meaning in fields.items()]
    return "\n".join([*lines, ""])


def page(path: str, command: Command) -> str:
    """One command: usage, help, options, JSON fields, examples."""
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"### {path}\n", f"`{usage}`\n", paragraphs(command), ""]
    shared = {"output", "output_json", "quiet"}
    options = [
        found
        for param in command.get_params(context)
        if isinstance(param, click.Option) and param.name not in shared and "--help" not in param.opts
        if (found := param.get_help_record(context))
    ]
    if options:
        parts += ["| option | meaning |", "| --- | --- |"]
        parts += [f"| `{flags}` | {escaped(text)} |" for flags, text in options] + [""]
    if command.fields:
        parts += ["JSON fields:", ""]
        parts += [f"- `{name}`: {meaning}" for name, meaning in command.fields.items()] + [""]
    parts += ["```sh", *command.examples, "```", ""]
    return "\n".join(parts)


def paragraphs(command: click.Command) -> str:
    """A command's help, each paragraph on one line."""
    blocks = (command.help or "").split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
