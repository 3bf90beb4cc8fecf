"""The built wheel, installed as somebody else would: with the embedded servers, and as the image does, without."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = "llama-index-workflows"  # owns a top-level package named `workflows`


@dataclass(frozen=True)
class Installed:
    """A virtual environment that has the wheel. Commands run in `cwd`, far from the repository."""

    venv: Path
    cwd: Path

    def run(
        self, program: str, *arguments: str, within_s: float = 60, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; it sees neither the repository nor this process's settings."""
        return subprocess.run(
            [self.venv / "bin" / program, *arguments],
            cwd=self.cwd,
            env={**clean_environment(), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def clean_environment() -> dict[str, str]:
    """What any program needs, and nothing that points at a model, a server or a Python path."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def uv(*arguments: str | Path) -> None:
    """Run uv with the package index that pip is set up for."""
    environ = {**os.environ, **index_of_pip(os.environ)}
    subprocess.run([sys.executable, "-m", "uv", *map(str, arguments)], env=environ, cwd=ROOT, check=True)


def index_of_pip(environ: Mapping[str, str]) -> dict[str, str]:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    index = environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    settings = {"UV_DEFAULT_INDEX": index, "SSL_CERT_FILE": environ.get("PIP_CERT", "")}
    return {name: value for name, value in settings.items() if value and name not in environ}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = built.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def beside_llama_index(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Somebody's own project: the wheel with [local], beside a package that is named as our directories are."""
    there = tmp_path_factory.mktemp("somebody else's project")
    uv("venv", "--quiet", "--python", sys.executable, there / "venv")
    into = ("--python", there / "venv", "--constraint", "requirements.lock")
    uv("pip", "install", "--quiet", *into, f"{wheel}[local]", FOREIGN)
    return Installed(there / "venv", there)


@pytest.fixture(scope="session")
def production(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What the Dockerfile installs: the worker's lock, then the wheel."""
    there = tmp_path_factory.mktemp("production")
    uv("venv", "--quiet", "--python", sys.executable, there / "venv")
    into = ("--quiet", "--python", there / "venv")
    uv("pip", "install", *into, "--require-hashes", "--requirement", "requirements-worker.lock")
    uv("pip", "install", *into, "--no-deps", wheel)
    return Installed(there / "venv", there)
