"""`up`, `down`, `status`, `doctor`, `db` against a stack of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without anything that names other servers or models."""
    foreign = ("HOLDFAST_", "TEMPORAL_", "ANTHROPIC_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "HOLDFAST_HOME": str(home)}


Run = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def at(home: Path) -> Iterator[Run]:
    """The command, for a stack in `home`, which is down again afterwards."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("holdfast")
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=55,
            cwd=home,
            env={**clean_environment(home), **environ},
        )

    yield run
    run("down")


@pytest.fixture(scope="module")
def holdfast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The command for the stack that this module shares."""
    with at(tmp_path_factory.mktemp("a home with blanks")) as run:
        yield run


def start(holdfast: Run) -> dict[str, Any]:
    """Start a stack without workers; what `up --detach --json` tells of it."""
    done = holdfast("up", "--detach", "--workers", "0", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def up(holdfast: Run) -> dict[str, Any]:
    return start(holdfast)


def test_before_up_nothing_runs_and_that_is_said(tmp_path):
    with at(tmp_path) as holdfast:
        done = holdfast("status", "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["state"] == "stopped"
        assert holdfast("db", "status").returncode == 4


def test_up_again_does_nothing(holdfast, up):
    again = json.loads(holdfast("up", "--detach", "--workers", "0", "--json").stdout)
    assert up["started"]
    assert again == {**up, "started": False}


def test_status_shows_every_process(holdfast, up):
    found = json.loads(holdfast("status", "--json").stdout)
    assert found["state"] == "ready"
    assert [one["name"] for one in found["processes"] if one["running"]] == ["temporal", "postgres", "model"]


def test_doctor_finds_the_stack_well(holdfast, up):
    done = holdfast("doctor", "--json")
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert found["schema"]["result"] == "ok"
    assert found["search attributes"]["result"] == "ok"
    assert "scripted" in found["model"]["found"]


def test_doctor_says_what_to_do_where_temporal_is_away(holdfast, up):
    done = holdfast("doctor", "--json", "--address", "127.0.0.1:1")
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert found["temporal"]["result"] == "failed"
    assert found["temporal"]["fix"]


def test_the_schema_is_current_and_migrating_again_changes_nothing(holdfast, up):
    assert json.loads(holdfast("db", "status", "--json").stdout)["current"]
    assert json.loads(holdfast("db", "migrate", "--json").stdout)["applied"] == []


def test_the_migrations_can_be_read_without_any_server(holdfast):
    done = holdfast("db", "migrate", "--sql")
    assert done.returncode == 0
    assert "CREATE TABLE holdfast.session" in done.stdout


def test_psql_opens_as_the_app_and_shows_no_password(holdfast, up):
    done = holdfast("db", "psql", "--", "-Atc", "SELECT current_user")
    assert done.stdout.strip() == "holdfast_app_login", done.stderr


def test_a_command_that_finds_no_temporal_ends_with_4_and_says_where_it_looked(holdfast, up):
    done = holdfast("start", "hello", "--address", "127.0.0.1:1")
    assert done.returncode == 4
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_finds_no_postgres_ends_with_4_and_shows_no_password(holdfast, up):
    done = holdfast("session", "list", "--dsn", "postgresql://app:s3cret@127.0.0.1:1/holdfast")
    assert done.returncode == 4
    assert "127.0.0.1:1" in done.stderr
    assert "s3cret" not in done.stderr


def test_down_stops_everything_and_may_be_said_twice(tmp_path):
    with at(tmp_path) as holdfast:
        start(holdfast)
        assert json.loads(holdfast("down", "--json").stdout)["was_running"]
        assert not json.loads(holdfast("down", "--json").stdout)["was_running"]
        assert json.loads(holdfast("status", "--json").stdout)["state"] == "stopped"
