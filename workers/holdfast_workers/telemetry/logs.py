"""Structured logs of a worker: one line per record on stderr, with the ids that lead to its trace.

Messages are fixed words and `extra` carries ids, names, sizes and durations. An exception is logged by its type and
places, without its message, which may quote an argument; `HOLDFAST_LOG_LEVEL=DEBUG` shows the message too.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self, TextIO, cast, get_args

from pydantic import Field

from holdfast.errors import HoldfastError
from holdfast.wire import Strict

Form = Literal["json", "text"]
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

ROOTS = (
    "holdfast",
    "holdfast_sagas",
    "holdfast_ledger",
    "holdfast_workflows",
    "holdfast_activities",
    "holdfast_workers",
    "holdfast_cli",
    "temporalio.activity",  # what activities log through `activity.logger`
    "temporalio.workflow",
)
"""Loggers at the chosen level: the import roots are no tree, so they are listed. All others are at WARNING."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_JSON = json.JSONEncoder(default=str, ensure_ascii=False)
MAX_FRAMES = 12


class LogSettingsInvalid(HoldfastError):
    """A logging variable has a value that cannot be used."""

    code = "invalid"


class LogSettings(Strict):
    form: Form = "json"
    level: str = Field(default="INFO", pattern="|".join(LEVELS))

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, terminal: bool = False) -> Self:
        """Read `HOLDFAST_LOG` (json or text) and `HOLDFAST_LOG_LEVEL`. Raises `LogSettingsInvalid`.

        Args:
            terminal: a person is looking, so text is the default.
        """
        form = environ.get("HOLDFAST_LOG") or ("text" if terminal else "json")
        level = (environ.get("HOLDFAST_LOG_LEVEL") or "INFO").upper()
        if form not in get_args(Form):
            raise LogSettingsInvalid(f"HOLDFAST_LOG is `{form}`; it can be json or text.")
        if level not in LEVELS:
            raise LogSettingsInvalid(f"HOLDFAST_LOG_LEVEL is `{level}`; it can be {', '.join(LEVELS)}.")
        return cls(form=cast(Form, form), level=level)


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Give this process one handler, on stderr."""
    from temporalio import activity, workflow

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(settings))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ROOTS:
        logging.getLogger(name).setLevel(settings.level)
    # Their ids are fields of the record already; in the message they would be written twice.
    activity.logger.activity_info_on_message = False
    workflow.logger.workflow_info_on_message = False


class LineFormatter(logging.Formatter):
    """One record, one line: a JSON object, or words for a person."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._form = settings.form
        self._debug = settings.level == "DEBUG"

    def format(self, record: logging.LogRecord) -> str:
        fields = {**_context(record), **_extra(record), **_active_span(), **self._error(record)}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._form == "json":
            head = {
                "time": time,
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
            }
            return _JSON.encode(head | fields)
        words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
        message = record.getMessage().replace("\n", " ")
        return f"{time} {record.levelname:<7} {record.name}: {message}  {words}".rstrip()

    def _error(self, record: logging.LogRecord) -> dict[str, Any]:
        if not record.exc_info or record.exc_info[1] is None:
            return {}
        error = record.exc_info[1]
        frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
        known: dict[str, Any] = {
            "error": type(error).__name__,
            "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        return known | ({"error_message": str(error)} if self._debug else {})


def _context(record: logging.LogRecord) -> dict[str, Any]:
    """Which activity or workflow logged it, in our words."""
    inside = getattr(record, "temporal_activity", None) or getattr(record, "temporal_workflow", None)
    if not isinstance(inside, Mapping):
        return {}
    names = {
        "workflow_id": "session_id",
        "workflow_run_id": "run_id",
        "run_id": "run_id",
        "activity_id": "activity_id",
        "activity_type": "activity",
        "attempt": "activity_attempt",
    }
    return {ours: inside[theirs] for theirs, ours in names.items() if inside.get(theirs) is not None}


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith(("temporal_", "__")) and value is not None
    }


def _active_span() -> dict[str, str]:
    """The ids of the active span; nothing where tracing was never switched on."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _word(value: Any) -> str:
    text = str(value)
    return text if text and not any(letter.isspace() or letter == '"' for letter in text) else json.dumps(text)
