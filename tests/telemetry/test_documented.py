"""docs/telemetry.md lists exactly the names that the code exports."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast_workers.telemetry import names

DOCUMENT = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
QUOTED = re.compile(r"`([^`]+)`")


def table(heading: str) -> dict[str, list[str]]:
    """The cells behind the first one, by the name in the first cell."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {QUOTED.findall(first)[0]: rest for first, *rest in rows}


def test_every_span_is_documented_with_its_attributes():
    documented = {span: tuple(QUOTED.findall(attributes)) for span, [attributes] in table("Traces").items()}
    assert documented == names.SPAN_ATTRIBUTES


def test_every_metric_is_documented_with_unit_and_attributes():
    documented = {
        metric: (QUOTED.findall(unit)[0], tuple(QUOTED.findall(attributes)))
        for metric, (unit, attributes, _) in table("Metrics").items()
    }
    assert documented == names.METRICS


def test_every_constant_is_used_in_a_span_or_a_metric():
    exported = {name for attributes in names.SPAN_ATTRIBUTES.values() for name in attributes}
    exported |= {*names.METRICS, *names.SPAN_ATTRIBUTES} | {
        name for _, attributes in names.METRICS.values() for name in attributes
    }
    constants = {value for key, value in vars(names).items() if key.isupper() and isinstance(value, str)}
    assert constants - {names.SCOPE} == exported
