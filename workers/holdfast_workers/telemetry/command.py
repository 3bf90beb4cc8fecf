"""The span of one command line, which starts the trace that its session's turns and calls join."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from holdfast_workers.telemetry import names
from holdfast_workers.telemetry.ambient import trace_from_env
from holdfast_workers.telemetry.switch import TelemetrySwitch

SERVICE = "holdfast"
CLOSE_WITHIN_S = 2.0
_log = logging.getLogger(__name__)


class Ending(Protocol):
    def __call__(self, exit_code: int) -> None:
        """Tell how the command ended."""
        ...


@contextmanager
def command_span(command: str, environ: Mapping[str, str]) -> Iterator[Ending]:
    """Trace a command for the length of the block, where the environment asks for it; export before leaving.

    Args:
        command: its words, e.g. `session list`; never its arguments.

    Raises:
        TelemetryInvalid: a variable has a value that cannot be used.
    """
    switch = TelemetrySwitch.from_env(environ)
    if switch.traces is None:
        yield lambda exit_code: None
        return
    # A collector that is away is told below in one sentence; the exporter would say it at every attempt.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    from opentelemetry import propagate
    from opentelemetry.trace import Status, StatusCode

    from holdfast_workers.telemetry.providers import open_providers

    providers = open_providers(switch.model_copy(update={"metrics": None}), service=SERVICE)
    try:
        with providers.tracer().start_as_current_span(
            names.COMMAND_SPAN.format(command=command),
            context=propagate.extract(trace_from_env(environ)),
            attributes={names.COMMAND: command},
            record_exception=False,  # its message may quote what was asked
            set_status_on_exception=False,
        ) as span:
            try:
                yield lambda exit_code: span.set_attribute(names.EXIT_CODE, exit_code)
            except BaseException as error:
                span.set_attribute(names.ERROR_TYPE, type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise
    finally:
        if not providers.close(within=CLOSE_WITHIN_S):
            _log.warning("Telemetry was not exported: the collector did not take it within %s s.", CLOSE_WITHIN_S)
