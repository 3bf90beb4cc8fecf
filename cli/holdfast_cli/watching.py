"""`--watch`: the same list again and again, drawn over itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from holdfast_cli.app import App
from holdfast_cli.exits import Exit, Failure

F = TypeVar("F", bound=Callable[..., Any])

EVERY_S = 2.0

watch_option = click.option("--watch", is_flag=True, help=f"Again every {EVERY_S:g} seconds, until Ctrl-C.")


def shown(app: App, show: Callable[[], None], *, watch: bool) -> int:
    """Show once, or until Ctrl-C. Raises `Failure` where there is no terminal to draw on."""
    if not watch:
        show()
        return Exit.DONE
    if not app.out.live:
        raise Failure("--watch draws on a terminal; in a script use `holdfast attach -o jsonl`.", Exit.USAGE)
    try:
        while True:
            click.clear()
            show()
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
