"""`doctor`: what works, what does not, and what to do about it. It changes nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit

if TYPE_CHECKING:
    from holdfast_workers.settings import Settings
    from holdfast_workers.stack.checks import Check

PACKAGES = ("holdfast", "temporalio", "anthropic", "asyncpg", "pydantic")
MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@command(
    "doctor",
    examples=("holdfast doctor", "holdfast doctor --json"),
    fields={
        "ok": "false when any check failed; warnings do not count",
        "checks": "name, result (ok, warning, failed), found, and fix: what to do, null where all is well",
    },
)
@pass_app
def doctor(app: App) -> int:
    """Check versions, configuration, tools, servers, schema, search attributes, keys, workers and the model.

    A missing search attribute is a warning, with the commands that create it: sessions run without. Exit code 1
    when something failed.
    """
    checks = app.run(examine(app.settings))
    failed = any(check.result == "failed" for check in checks)
    fields = {"ok": not failed, "checks": [check.model_dump(mode="json") for check in checks]}
    app.out.one(fields, "\n".join(lines(checks)), quiet="failed" if failed else "ok")
    return Exit.FAILED if failed else Exit.DONE


async def examine(settings: Settings) -> list[Check]:
    from holdfast_workers import checks

    return [
        *versions(),
        *checks.check_embedded(settings),
        *checks.check_configuration(settings),
        *await checks.check_servers(settings),
        *await checks.check_workers(settings),
        checks.check_model(settings),
    ]


def versions() -> Iterable[Check]:
    from holdfast_workers.stack.checks import Check

    found = ", ".join(f"{name} {installed(name)}" for name in PACKAGES)
    yield Check(name="versions", result="ok", found=f"python {platform.python_version()}, {found}")


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def lines(checks: Iterable[Check]) -> Iterable[str]:
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    for check in checks:
        yield f"{click.style(MARKS[check.result], fg=colours[check.result])}  {check.name}: {check.found}"
        if check.fix:
            yield from (f"           {line}" for line in check.fix.splitlines())
