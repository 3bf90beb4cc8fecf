"""The runtime file: how every other command finds the running stack, and a later `up` its leftovers.

Whether a supervisor lives is told by the lock it holds, never by the file alone: after `kill -9` the file
still says "ready". The file outlives the stack, so that the next start can ask for the same ports.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from holdfast_workers.stack.errors import AlreadyRunning
from holdfast_workers.stack.home import Home, write_private
from holdfast_workers.stack.processes import ProcessIdentity

State = Literal["starting", "ready", "stopping", "stopped"]


class Ports(BaseModel):
    """The loopback ports in use; `services` by name."""

    model_config = ConfigDict(frozen=True)

    temporal: int
    temporal_http: int
    temporal_ui: int
    postgres: int
    services: dict[str, int] = {}


class Addresses(BaseModel):
    """Where the parts of the stack are. The DSNs hold passwords: never log them."""

    model_config = ConfigDict(frozen=True)

    temporal: str  # host:port
    namespace: str
    temporal_http: str  # URL of the HTTP API
    ui: str  # URL of the web UI
    migrate_dsn: str = Field(repr=False)
    app_dsn: str = Field(repr=False)
    auditor_dsn: str = Field(repr=False)
    services: dict[str, str] = {}  # base URL by name

    @property
    def model(self) -> str | None:
        """Base URL of the scripted model; None where the real one is used."""
        return self.services.get("model")


class Runtime(BaseModel):
    """One run of the stack, as its supervisor last wrote it."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    state: State
    supervisor: ProcessIdentity
    ports: Ports
    addresses: Addresses
    processes: tuple[ProcessIdentity, ...] = ()

    def write(self, home: Home) -> None:
        """Replace the runtime file."""
        write_private(home.runtime, self.model_dump_json(indent=2))


def read_runtime(home: Path) -> Runtime | None:
    """The running stack of `home`, in state "ready"; None if there is none (yet)."""
    record = last_record(Home(home))
    if record is None or record.state != "ready" or not is_locked(Home(home)):
        return None
    # The lock may be the next supervisor's, which has yet to write this file.
    return record if record.supervisor.process() else None


def last_record(home: Home) -> Runtime | None:
    """What the last supervisor wrote, whether or not it still lives; None if nothing legible.

    Raises `StackError` if `home` is another user's, as all functions that ask this one do.
    """
    if not home.exists():
        return None
    try:
        return Runtime.model_validate_json(home.runtime.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


@contextmanager
def hold_lock(home: Home) -> Iterator[None]:
    """Be the only supervisor of `home` for the length of the block. Raises `AlreadyRunning`.

    The kernel lets go of the lock when the process ends, however it ends.
    """
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + 0.3  # one that was just killed still holds it
        while not try_lock(descriptor, fcntl.LOCK_EX):
            # Whoever asks `is_locked` at this moment shares it for an instant; only a supervisor does not share.
            if not try_lock(descriptor, fcntl.LOCK_SH) and time.monotonic() > deadline:
                raise AlreadyRunning(home.path)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # so that of two that start now, one gets it
            time.sleep(random.uniform(0.005, 0.02))
        yield
    finally:
        os.close(descriptor)


def is_locked(home: Home) -> bool:
    """Whether a supervisor of `home` lives."""
    try:
        descriptor = os.open(home.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take the lock if nobody holds it against us."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
