"""`db migrate | status | psql`: the database itself."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from typing import NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.exits import Exit, Failure


@click.group("db", cls=Group)
def db() -> None:
    """Migrate and inspect the database."""


def owner_dsn(app: App) -> str:
    """The DSN that may change the schema."""
    if found := app.settings.migrate_dsn or app.settings.dsn:
        return found
    raise Failure(
        "No Postgres is known: start the stack with `holdfast up`, or set HOLDFAST_MIGRATE_DSN.", Exit.UNREACHABLE
    )


@command(
    "migrate",
    examples=(
        "holdfast db migrate",
        "holdfast db migrate --sql > holdfast.sql",
        "HOLDFAST_MIGRATE_DSN=postgresql://owner@db/holdfast holdfast db migrate",
    ),
    fields={
        "version": "the schema's version now",
        "applied": "migrations applied by this run",
        "partitions": "partitions made by this run",
    },
)
@click.option("--sql", is_flag=True, help="Print the SQL for an empty database instead, and connect to nothing.")
@pass_app
def migrate(app: App, sql: bool) -> int:
    """Bring the database to this version's schema. Safe to run again, from two places at once, and on a live one.

    Needs HOLDFAST_MIGRATE_DSN, a login that may create roles and a schema; never a superuser. The running stack
    migrates by itself.
    """
    from holdfast_ledger import migrate as migrations

    if sql:
        click.echo(migrations.sql())
        return Exit.DONE
    report = app.run(migrations.migrate(owner_dsn(app), on_progress=app.out.say))
    text = f"The schema is at version {report.version}" + ("." if report.applied else "; nothing was to do.")
    app.out.one(asdict(report), text, quiet=str(report.version))
    return Exit.DONE


@command(
    "status",
    examples=("holdfast db status", "holdfast db status --json"),
    fields={
        "where": "host, port and database",
        "version": "the schema's version; 0 without one",
        "wanted": "the version this code needs",
        "pending": "migrations to apply",
        "edited": "migrations applied with another text than this code carries",
        "cluster_id": "the Temporal this ledger belongs to; null until a worker has started",
        "namespace": "its namespace",
        "current": "whether all is applied",
    },
)
@pass_app
def status(app: App) -> int:
    """Show the schema's version and to which Temporal the ledger belongs. Exit code 1 unless it is current."""
    from holdfast_ledger import migrate as migrations

    found = app.run(migrations.status(app.settings.dsn or owner_dsn(app)))
    lines = [f"{found.where}: schema version {found.version}" + (", current" if found.current else "")]
    if found.pending:
        lines.append(f"`holdfast db migrate` would apply {', '.join(found.pending)}.")
    if found.edited:
        lines.append(f"Made by another build of Holdfast: {', '.join(found.edited)}.")
    if found.cluster_id:
        lines.append(f"Belongs to Temporal cluster {found.cluster_id}, namespace {found.namespace}.")
    app.out.one({**asdict(found), "current": found.current}, "\n".join(lines), quiet=str(found.version))
    return Exit.DONE if found.current else Exit.FAILED


@command(
    "psql",
    examples=("holdfast db psql", 'holdfast db psql -- -c "SELECT * FROM audit.run"', "holdfast db psql --owner"),
)
@click.option("--owner", is_flag=True, help="As the schema's owner instead of the app role.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_app
def psql(app: App, owner: bool, arguments: tuple[str, ...]) -> NoReturn:
    """Open psql on the database. ARGUMENTS after `--` are psql's own. The schema `audit` is made to be read."""
    dsn = owner_dsn(app) if owner else app.settings.dsn or owner_dsn(app)
    address, password = without_password(dsn)
    program = psql_program()
    environ = {**os.environ, "PGPASSWORD": password} if password else dict(os.environ)
    os.execvpe(program, [program, address, *arguments], environ)


def without_password(dsn: str) -> tuple[str, str | None]:
    """The DSN without its password, which must not stand in a process's arguments."""
    parts = urlsplit(dsn)
    if parts.password is None:
        return dsn, None
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}")), unquote(parts.password)


def psql_program() -> str:
    """The psql of the PATH, or the one that came with the embedded PostgreSQL."""
    if found := shutil.which("psql"):
        return found
    try:
        from holdfast_workers.stack.postgres import program

        return str(program("psql"))
    except Exception as error:  # whatever is missing of the embedded server
        raise Failure("There is no `psql` here; install PostgreSQL's client.", Exit.USAGE) from error


for each in (migrate, status, psql):
    db.add_command(each)
