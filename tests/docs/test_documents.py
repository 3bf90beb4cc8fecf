"""What the documents say is true: their commands run, their files load, their links lead somewhere."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from holdfast_workers.config_file import parse_config
from tests.docs.documents import EXAMPLES, ROOT, RUN, SHOWN, Block, blocks, documents, script

DOCUMENTS = documents()
BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
VERBS = ("", "file", "exits", "docker", "see", "sketch")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def of(*, language: str | None = None, verb: str | None = None) -> list[Block]:
    return [
        block
        for block in BLOCKS
        if (language is None or block.language == language) and (verb is None or block.verb == verb)
    ]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty directory with a home of its own beside it, and the repository's parts that documents name."""
    root = tmp_path_factory.mktemp("document")
    place = root / "project"
    place.mkdir()
    for name in (".venv", "examples", "ledger"):
        (place / name).symlink_to(ROOT / name)
    yield place
    subprocess.run([holdfast(), "down"], env=environment(place), cwd=place, check=True, capture_output=True)


def holdfast() -> str:
    return str(Path(sys.executable).parent / "holdfast")


def environment(place: Path) -> dict[str, str]:
    """A reader's: no key, no server, a home nobody else uses."""
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR", "XDG_RUNTIME_DIR") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = str(place.parent / "home")
    return {**kept, "PATH": path, "HOME": home, "HOLDFAST_HOME": f"{home}/holdfast", "COLUMNS": "100"}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("document", [each for each in DOCUMENTS if script(each)], ids=str)
def test_a_reader_can_do_what_the_document_says(document: Path, place: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", script(document)],
        cwd=place,
        env=environment(place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_block_is_run_or_shown_on_purpose(document: Path) -> None:
    languages = (*RUN, *SHOWN, *(language for where, language in [EXAMPLES] if where == document))

    odd = [block.place for block in blocks(document) if block.language not in languages or block.verb not in VERBS]

    assert odd == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / document).read_text(encoding="utf-8")))

    assert named <= defined_tests()


@cache
def defined_tests() -> set[str]:
    defined = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
    return {name for file in (ROOT / "tests").rglob("test_*.py") for name in defined.findall(file.read_text())}


@pytest.mark.parametrize("block", of(language="toml"), ids=lambda block: block.place)
def test_every_configuration_can_be_read(block: Block) -> None:
    parse_config(block.text, name=block.place)


@pytest.mark.parametrize("block", of(language="bash"), ids=lambda block: block.place)
def test_every_command_is_valid_bash(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize("block", of(language="python"), ids=lambda block: block.place)
def test_every_python_block_compiles(block: Block) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if block.verb == "sketch" else 0

    compile(block.text, block.place, "exec", flags)


@pytest.mark.parametrize("block", of(verb="see"), ids=lambda block: block.place)
def test_what_another_test_runs_is_run_there(block: Block) -> None:
    file, _, name = block.argument.partition("::")

    assert f"def {name}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("block", of(verb="docker"), ids=lambda block: block.place)
def test_docker_commands_name_services_that_there_are(block: Block) -> None:
    import yaml

    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    named = re.findall(r"--scale (\w+)=|run --rm (\w+)|logs (?:-\S+ )*(\w+)", block.text)

    assert {name for names in named for name in names if name} <= services.keys()


@pytest.mark.parametrize("document", [*DOCUMENTS, Path("CHANGELOG.md")], ids=str)
def test_every_link_leads_to_a_file(document: Path) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(), flags=re.DOTALL)

    missing = [link for link in LINK.findall(text) if not ((ROOT / document).parent / link).exists()]

    assert missing == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
