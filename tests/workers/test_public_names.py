"""What other people's code imports: it is there, it is documented, and it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
import holdfast_workers

DOCS = Path(__file__).resolve().parents[2] / "docs"
HEAVY = ("temporalio", "anthropic", "asyncpg", "pydantic", "opentelemetry")


@pytest.mark.parametrize("name", holdfast_workers.__all__)
def test_every_name_leads_somewhere(name: str) -> None:
    assert getattr(holdfast_workers, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="holdfast_workers"):
        _ = holdfast_workers.Nothing


@pytest.mark.parametrize("name", [*holdfast.__all__, *holdfast_workers.__all__])
def test_every_name_is_documented(name: str) -> None:
    pages = [page.read_text() for page in DOCS.glob("*.md") if page.name != "cli.md"]

    assert any(name in page for page in pages)


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = f"import sys, holdfast_workers; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"
