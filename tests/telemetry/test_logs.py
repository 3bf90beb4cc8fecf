"""A worker's log lines: whole, by field, with the ids that lead to the trace, and never an error's message."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from holdfast_workers.telemetry.logs import ROOTS, LineFormatter, LogSettings, LogSettingsInvalid

ROOT = Path(__file__).parents[2]


def line(settings: LogSettings | None = None, message: str = "call %s", **record: object) -> str:
    """What one record becomes."""
    logger = logging.Logger("holdfast.calls")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(settings or LogSettings()))
    logger.addHandler(handler)
    logger.info(message, *(["done"] if "%s" in message else []), **record)  # type: ignore[arg-type]  # as callers do
    assert stream.getvalue().count("\n") == 1
    return stream.getvalue()


def test_a_record_is_one_json_object_with_its_fields():
    entry = json.loads(line(extra={"session_id": "s1", "ms": 12, "error": None}))
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "INFO",
        "logger": "holdfast.calls",
        "message": "call done",
        "session_id": "s1",
        "ms": 12,
    }


def test_a_line_break_in_a_message_stays_in_its_line():
    assert json.loads(line(message="one\ntwo"))["message"] == "one\ntwo"
    line(LogSettings(form="text"), message="one\ntwo", extra={"places": "a\nb"})


def test_text_shows_the_fields_behind_the_words():
    said = line(LogSettings(form="text"), extra={"session_id": "s1", "reason": "two words"})
    assert 'INFO    holdfast.calls: call done  session_id=s1 reason="two words"' in said


def test_the_activity_that_logs_is_named_in_our_words():
    inside = {"workflow_id": "s1", "activity_id": "turn-3", "attempt": 2, "task_queue": "q"}
    entry = json.loads(line(extra={"temporal_activity": inside}))
    assert (entry["session_id"], entry["activity_id"], entry["activity_attempt"]) == ("s1", "turn-3", 2)
    assert "task_queue" not in entry


def test_an_exception_shows_type_and_places_and_its_message_only_when_debugging():
    def fail() -> None:
        raise ValueError("amount=4711")

    for level, shown in (("INFO", False), ("DEBUG", True)):
        try:
            fail()
        except ValueError:
            entry = json.loads(line(LogSettings(level=level), message="tool failed", exc_info=True))
        assert entry["error"] == "ValueError"
        assert entry["frames"][-1].endswith(" fail")
        assert ("4711" in json.dumps(entry)) is shown


def test_a_record_carries_the_active_trace():
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("turn") as span:
        entry = json.loads(line())
    assert entry["trace_id"] == trace.format_trace_id(span.get_span_context().trace_id)
    assert entry["span_id"] == trace.format_span_id(span.get_span_context().span_id)
    assert "trace_id" not in json.loads(line())


def test_the_settings_come_from_the_environment_and_a_terminal_gets_words():
    assert LogSettings.from_env({}) == LogSettings(form="json", level="INFO")
    assert LogSettings.from_env({}, terminal=True).form == "text"
    assert LogSettings.from_env({"HOLDFAST_LOG": "json"}, terminal=True).form == "json"
    assert LogSettings.from_env({"HOLDFAST_LOG_LEVEL": "debug"}).level == "DEBUG"


@pytest.mark.parametrize(
    ("environ", "said"),
    [({"HOLDFAST_LOG": "xml"}, "json or text"), ({"HOLDFAST_LOG_LEVEL": "loud"}, "DEBUG, INFO")],
)
def test_a_setting_that_cannot_be_is_refused_with_what_can(environ, said):
    with pytest.raises(LogSettingsInvalid, match=said):
        LogSettings.from_env(environ)


def test_every_import_root_is_configured():
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(configuration["tool"]["importlinter"]["root_packages"]) <= set(ROOTS)


def test_a_process_logs_what_its_packages_say_and_of_others_only_warnings():
    code = """
import logging
from holdfast_workers.telemetry.logs import LogSettings, configure_logging
configure_logging(LogSettings.from_env({"HOLDFAST_LOG_LEVEL": "INFO"}))
for name in ("holdfast_activities.calls", "temporalio.activity", "somebody", "temporalio.worker"):
    logging.getLogger(name).info("info")
    logging.getLogger(name).warning("warning")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    entries = [json.loads(one) for one in done.stderr.splitlines()]
    assert [(entry["logger"], entry["message"]) for entry in entries] == [
        ("holdfast_activities.calls", "info"),
        ("holdfast_activities.calls", "warning"),
        ("temporalio.activity", "info"),
        ("temporalio.activity", "warning"),
        ("somebody", "warning"),
        ("temporalio.worker", "warning"),
    ]
