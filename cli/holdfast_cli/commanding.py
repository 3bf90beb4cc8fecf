"""How commands are declared: options that every command takes, examples, documented JSON fields, lazy groups.

A group knows its commands' names and one-line helps from a table and imports a command's module only when that
command is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import click

from holdfast_cli.app import App, Flags

F = TypeVar("F", bound=Callable[..., Any])


def connection_options(*, hidden: bool) -> list[click.Option]:
    """`--profile --address ...`: accepted before and after the command, shown once."""

    def option(flag: str, metavar: str, text: str, envvar: str) -> click.Option:
        return click.Option(
            [flag],
            metavar=metavar,
            help=f"{text} [env: {envvar}]",
            expose_value=False,
            callback=remember,
            hidden=hidden,
        )

    return [
        option("--profile", "NAME", "Profile of Temporal's configuration file.", "TEMPORAL_PROFILE"),
        option("--address", "HOST:PORT", "Temporal.", "TEMPORAL_ADDRESS"),
        option("--namespace", "NAME", "Temporal's namespace.", "TEMPORAL_NAMESPACE"),
        option("--dsn", "DSN", "Postgres.", "HOLDFAST_DSN"),
        option("--home", "DIR", "State of the embedded stack.", "HOLDFAST_HOME"),
        option("--config", "FILE", "Agents and tools; default ./holdfast.toml.", "HOLDFAST_CONFIG"),
        click.Option(
            ["--debug"],
            is_flag=True,
            default=None,
            help="Show the traceback of an error.",
            expose_value=False,
            callback=remember,
            hidden=hidden,
        ),
    ]


def output_options() -> list[click.Option]:
    """`-o`, `--json`, `-q`."""
    return [
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["text", "json", "jsonl"]),
            help="text for people, json one document, jsonl one object a line.",
            expose_value=False,
            callback=remember,
        ),
        click.Option(
            ["--json", "output_json"],
            is_flag=True,
            default=None,
            help="The same as -o json.",
            expose_value=False,
            callback=remember_json,
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            default=None,
            help="Only what was asked for: ids, or the answer.",
            expose_value=False,
            callback=remember,
        ),
    ]


def remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep a shared option where commands find it; the one nearest to the command wins."""
    if value is not None:
        setattr(context.ensure_object(App).flags, str(option.name), value)


def remember_json(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value:
        context.ensure_object(App).flags.output = "json"


class Command(click.Command):
    """A command with examples, and the fields of its JSON."""

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        fields: Mapping[str, str] | None = None,
        traced: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.traced = traced
        self.examples = tuple(examples)
        self.fields = dict(fields or {})
        self.params += [*output_options(), *connection_options(hidden=True)]

    def invoke(self, ctx: click.Context) -> Any:
        if not self.traced or not any(name.startswith("OTEL_") for name in os.environ):
            return super().invoke(ctx)
        from holdfast_workers.telemetry.command import command_span

        with command_span(ctx.command_path.partition(" ")[2], os.environ) as ending:
            code = super().invoke(ctx)
            ending(code if isinstance(code, int) else 0)
            return code

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)
        if self.fields:
            with formatter.section("JSON fields"):
                formatter.write_dl(list(self.fields.items()))


@dataclass(frozen=True)
class Entry:
    """One command of a lazy group: where it is, and its help in one line."""

    target: str
    """`module:attribute`."""
    help: str
    section: str = "Commands"


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    command_class = Command

    def __init__(
        self, *args: Any, entries: Mapping[str, Entry], examples: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries
        self.examples = tuple(examples)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        entry = self.entries.get(name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(args[0], self.entries, n=1)
            if not near:
                raise
            message = f"There is no command `{args[0]}`. Did you mean `{near[0]}`?"
            raise click.UsageError(message, context) from None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry.section for entry in self.entries.values()):
            rows = [(name, entry.help) for name, entry in self.entries.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


class Group(click.Group):
    """A noun with its verbs, all in one module."""

    command_class = Command
    examples: tuple[str, ...] = ()


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    if not examples:
        return
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def command(
    name: str, *, examples: Sequence[str], fields: Mapping[str, str] | None = None, traced: bool = True
) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command; its docstring is its help. What runs until it is stopped has no span: `traced` False."""
    return click.command(name, cls=Command, examples=examples, fields=fields, traced=traced)


pass_app = click.make_pass_decorator(App, ensure=True)
"""Give a command the `App`: its flags, settings, output and connections."""

__all__ = ["App", "Command", "Entry", "Flags", "Group", "LazyGroup", "command", "pass_app"]
