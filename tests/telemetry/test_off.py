"""Without its variables telemetry is not there: nothing imported, nothing started, nothing in the way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from holdfast_activities.calls.report import log_call
from holdfast_activities.model_turn import log_attempt
from holdfast_workers.telemetry.worker import OFF

WORKER = """
import sys, threading
import holdfast_workers.worker, holdfast_workers.client
from holdfast_workers.telemetry.ambient import ambient_trace
from holdfast_workers.telemetry.worker import OFF, open_telemetry
import os
before = threading.enumerate()
telemetry = open_telemetry(os.environ, provider="anthropic")
ambient_trace()
started = [thread.name for thread in threading.enumerate() if thread not in before]
telemetry.close()
sdk = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
print(telemetry is OFF, started, sdk)
"""


def run(code: str, **environ: str) -> str:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=quiet | {"XDG_RUNTIME_DIR": "/tmp"} | environ,
    )
    return done.stdout.strip()


def test_off_imports_no_sdk_and_starts_no_thread():
    assert run(WORKER) == "True [] []"


def test_disabled_is_off_although_everything_else_is_set():
    said = run(WORKER, OTEL_SDK_DISABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert said == "True [] []"


def test_on_imports_the_sdk_so_that_the_claims_above_can_fail():
    said = run(WORKER, OTEL_TRACES_EXPORTER="console")
    assert said.startswith("False ['OtelBatchSpanRecordProcessor'] ['opentelemetry.sdk")


def test_off_hands_out_the_plain_observers_and_nothing_to_wrap_activities_with():
    assert OFF.observe_turn is log_attempt
    assert OFF.observe_call is log_call
    assert OFF.interceptors == ()
    assert OFF.runtime is None


def test_a_command_without_telemetry_imports_none_of_it():
    code = (
        "import sys\n"
        "from holdfast_cli.main import run\n"
        "run(['completion', 'bash'])\n"
        "print('\\n', [m for m in sys.modules if 'telemetry' in m])"
    )
    assert run(code).splitlines()[-1].strip() == "[]"


def test_telemetry_of_the_application_around_us_is_joined():
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
import opentelemetry.sdk.metrics
from holdfast_workers.telemetry.worker import open_telemetry
from holdfast_workers.telemetry.ambient import ambient_trace
telemetry = open_telemetry({}, provider="anthropic")
with trace.get_tracer("app").start_as_current_span("mine") as span:
    joined = f"{span.get_span_context().trace_id:032x}" in ambient_trace()["traceparent"]
print(len(telemetry.interceptors), telemetry.providers.stops, joined)
"""
    assert run(code) == "1 () True"


def test_a_bad_variable_is_told_in_words():
    code = """
from holdfast_cli.main import run
print(run(['completion', 'bash']))
"""
    assert run(code, OTEL_TRACES_EXPORTER="zipkin").splitlines()[-1] == "2"


def test_a_collector_that_hangs_costs_a_command_two_seconds_and_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        started = time.monotonic()
        done = subprocess.run(
            [Path(sys.executable).with_name("holdfast"), "completion", "bash"],
            capture_output=True,
            text=True,
            timeout=30,
            env=environ,
        )
    assert done.returncode == 0
    assert 2 <= time.monotonic() - started < 8
    assert done.stderr == "Telemetry was not exported: the collector did not take it within 2.0 s.\n"
