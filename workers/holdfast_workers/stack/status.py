"""What `holdfast status` tells: the state of one home's stack and of each of its processes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from holdfast_workers.stack.home import Home
from holdfast_workers.stack.ports import LOOPBACK
from holdfast_workers.stack.processes import ProcessIdentity
from holdfast_workers.stack.runtime import Runtime, is_locked, last_record


class ProcessStatus(BaseModel):
    """One process of the stack."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    running: bool
    started_at: datetime
    restarts: int
    log: Path


class StackStatus(BaseModel):
    """One stack. Holds no password; addresses are null unless it runs.

    `lost`: the supervisor was killed; `processes` are what may remain of it.
    """

    model_config = ConfigDict(frozen=True)

    home: Path
    state: Literal["stopped", "starting", "ready", "stopping", "lost"]
    supervisor_pid: int | None = None
    temporal: str | None = None
    namespace: str | None = None
    ui: str | None = None
    postgres: str | None = None
    services: dict[str, str] = {}
    processes: tuple[ProcessStatus, ...] = ()


def status(home: Path) -> StackStatus:
    """The state of the stack of `home` now."""
    its = Home(home.resolve())
    record = last_record(its)
    if record is None:
        return StackStatus(home=its.path, state="starting" if is_locked(its) else "stopped")
    processes = tuple(process_status(its, one) for one in record.processes) + beside(its)
    if not is_locked(its):
        lost = any(one.running for one in processes)
        return StackStatus(home=its.path, state="lost" if lost else "stopped", processes=processes if lost else ())
    if record.supervisor.process() is None:
        # The lock is the next supervisor's, which has yet to write the file.
        return StackStatus(home=its.path, state="starting")
    return with_addresses(its, record, processes)


def with_addresses(home: Home, record: Runtime, processes: tuple[ProcessStatus, ...]) -> StackStatus:
    """The status of a stack whose supervisor lives."""
    return StackStatus(
        home=home.path,
        state=record.state,
        supervisor_pid=record.supervisor.pid,
        temporal=record.addresses.temporal,
        namespace=record.addresses.namespace,
        ui=record.addresses.ui,
        postgres=f"{LOOPBACK}:{record.ports.postgres}",
        services=record.addresses.services,
        processes=processes,
    )


def beside(home: Home) -> tuple[ProcessStatus, ...]:
    """What runs beside the stack."""
    records = [(one, last_record(one)) for one in home.companions()]
    found = [process_status(one, identity) for one, record in records if record for identity in record.processes]
    return tuple(process for process in found if process.running)


def process_status(home: Home, identity: ProcessIdentity) -> ProcessStatus:
    """Whether a recorded process still runs."""
    return ProcessStatus(
        name=identity.name,
        pid=identity.pid,
        running=identity.process() is not None,
        started_at=datetime.fromtimestamp(identity.create_time, UTC),
        restarts=identity.restarts,
        log=home.log(identity.name),
    )
