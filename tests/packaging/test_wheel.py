"""What is in the wheel, and what is not."""

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "holdfast": "holdfast",
    "holdfast_sagas": "sagas/holdfast_sagas",
    "holdfast_ledger": "ledger/holdfast_ledger",
    "holdfast_workflows": "workflows/holdfast_workflows",
    "holdfast_activities": "activities/holdfast_activities",
    "holdfast_workers": "workers/holdfast_workers",
    "holdfast_cli": "cli/holdfast_cli",
    "travel_desk": "examples/travel/travel_desk",
}


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_our_packages_and_nothing_else(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_is_in_the_wheel(names: set[str], package: str) -> None:
    directory = ROOT / PACKAGES[package]
    files = [path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts]

    missing = {f"{package}/{path.relative_to(directory).as_posix()}" for path in files} - names

    assert missing == set()


@pytest.mark.parametrize("kind", [".sql", ".yaml", ".toml", "py.typed", ".toml.txt"])
def test_data_files_are_in_the_wheel(names: set[str], kind: str) -> None:
    assert any(name.endswith(kind) for name in names)


def test_the_licence_is_in_the_wheel(names: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_no_directory_of_the_repository_is_a_package_itself() -> None:
    """`workflows/__init__.py` would put a package of that name before somebody else's."""
    directories = {ROOT / Path(where).parts[0] for where in PACKAGES.values()} - {ROOT / "holdfast"}

    assert [path for path in directories if (path / "__init__.py").exists()] == []
