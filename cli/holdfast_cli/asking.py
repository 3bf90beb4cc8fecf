"""What people type: messages, names, labels, limits, and who they are."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from holdfast.budget import TighterLimits
    from holdfast.messages import Principal

F = TypeVar("F", bound=Callable[..., Any])

TOO_BIG_TO_READ = 64 * 1024 * 1024
"""A message is far smaller; beyond this a file is not even read to say by how much."""


def read_message(given: str) -> str:
    """The message itself. Raises `Failure` where a file or standard input cannot be used as one."""
    if given == "-":
        return decoded(sys.stdin.buffer.read(TOO_BIG_TO_READ), "standard input")
    if not given.startswith("@"):
        return given
    path = Path(given[1:]).expanduser()
    try:
        if path.stat().st_size > TOO_BIG_TO_READ:
            raise Failure(
                f"`{path}` is far too big for a message ({path.stat().st_size / 2**20:.0f} MB).", Exit.USAGE
            )
        return decoded(path.read_bytes(), f"`{path}`")
    except OSError as error:
        raise Failure(f"Cannot read the message from `{path}`: {error.strerror}.", Exit.USAGE) from error


def decoded(body: bytes, where: str) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"The message in {where} is not UTF-8 text (byte {error.start}).", Exit.USAGE) from error


def user() -> str:
    """Who runs this command, as the operating system says."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise Failure("The operating system does not say who you are; give --as NAME.", Exit.USAGE) from None


def as_option(function: F) -> F:
    """`--as`: in whose name the command acts."""
    decorate = click.option("--as", "as_user", metavar="NAME", help="Act in this name; the default is your login.")
    return decorate(function)


def start_options(function: F) -> F:
    """What `start` and `run` share."""
    options = [
        click.option("--agent", default="default", show_default=True, help="An agent of holdfast.toml."),
        click.option(
            "--id", "session_id", metavar="ID", help="Name the session; starting it again is the same one."
        ),
        as_option,
        click.option("--on-behalf-of", metavar="NAME", help="For whom the session acts."),
        click.option("--tenant", metavar="NAME", help="To which tenant it belongs."),
        click.option(
            "--role", "roles", multiple=True, metavar="NAME", help="A role that policy looks at; repeatable."
        ),
        click.option(
            "--label", "labels", multiple=True, metavar="NAME=VALUE", help="Anything of yours; repeatable."
        ),
        click.option(
            "--max-turns",
            type=click.IntRange(1),
            help="Turns; a session may lower its agent's limits, never raise them.",
        ),
        click.option("--max-calls", type=click.IntRange(0), help="Tool calls."),
        click.option("--max-tokens", type=click.IntRange(1), help="Tokens of all turns together."),
        click.option("--max-usd", type=Decimal, help="US dollars."),
        click.option("--max-minutes", type=click.FloatRange(0, min_open=True), help="Minutes from start to end."),
        click.option("--priority", type=click.IntRange(1, 5), help="1 goes first where all are busy; usually 3."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def principal_of(
    as_user: str | None,
    on_behalf_of: str | None,
    tenant: str | None,
    roles: tuple[str, ...],
    labels: tuple[str, ...],
) -> Principal:
    from holdfast.messages import Principal

    given: dict[str, Any] = {"requested_by": as_user or user()}
    optional = {
        "on_behalf_of": on_behalf_of,
        "tenant": tenant,
        "roles": roles,
        "labels": pairs(labels),
    }
    return Principal(**given, **{name: value for name, value in optional.items() if value})


def pairs(labels: tuple[str, ...]) -> dict[str, str]:
    """Labels as a mapping. Raises `Failure` for one that is no NAME=VALUE."""
    split = [label.partition("=") for label in labels]
    if wrong := [name for name, equals, _ in split if not equals or not name]:
        raise Failure(f"A label is NAME=VALUE, e.g. `--label case=4711`; got `{wrong[0]}`.", Exit.USAGE)
    return {name: value for name, _, value in split}


def limits_of(
    max_turns: int | None,
    max_calls: int | None,
    max_tokens: int | None,
    max_usd: Decimal | None,
    max_minutes: float | None,
) -> TighterLimits | None:
    """Only what was given; the agent's own limits stay for the rest."""
    from pydantic import ValidationError

    from holdfast.budget import TighterLimits

    given = {
        "turns": max_turns,
        "calls": max_calls,
        "tokens": max_tokens,
        "usd": max_usd,
        "wall_time": timedelta(minutes=max_minutes) if max_minutes else None,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen:
        return None
    try:
        return TighterLimits(**chosen)
    except ValidationError as error:
        raise Failure(f"A limit cannot be used: {error.errors()[0]['msg']}.", Exit.USAGE) from error
