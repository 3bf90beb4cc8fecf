"""A stack of a chaos run's own: servers, services and workers in one home, nothing of it shared with anybody."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast_workers.chaos.armed import Armory
from holdfast_workers.chaos.processes import Server, Worker
from holdfast_workers.chaos.services import Services
from holdfast_workers.embedded import Embedded, migrate
from holdfast_workers.keys import KEYS, KEYS_FILE, KMS, KeySettings
from holdfast_workers.settings import ModelSettings, Settings, TemporalSettings
from holdfast_workers.stack import ports
from holdfast_workers.stack.home import Home, Passwords
from holdfast_workers.stack.logins import APP, AUDITOR, ensure_logins
from holdfast_workers.stack.plan import Service
from holdfast_workers.stack.postgres import Postgres, remove_stale_lock
from holdfast_workers.stack.probes import http_probe
from holdfast_workers.stack.processes import ProcessSpec, together
from holdfast_workers.stack.runtime import Addresses
from holdfast_workers.stack.temporal_server import NAMESPACE, TemporalServer, packaged_binary

if TYPE_CHECKING:
    import asyncpg

TASK_QUEUE = "holdfast-chaos"
AGENT = "chaos"
START_WITHIN_S = 90.0
"""Several Pythons start at once, on a machine that has other things to do."""
SQL_WITHIN_S = 10.0
KEY_BYTES = 32
MANY_CONNECTIONS = {"max_connections": "200"}


@dataclass(frozen=True, kw_only=True)
class House:
    """What runs, and where."""

    home: Home
    addresses: Addresses
    postgres_data: Path
    temporal_database: Path
    postgres: Server
    temporal: Server
    workers: tuple[Worker, ...]
    services: Services
    armory: Armory
    settings: Settings

    @property
    def frozen(self) -> bool:
        """Whether a worker stands still that may go on any moment."""
        return any(worker.frozen for worker in self.workers)

    def serving(self) -> list[Worker]:
        """Workers that could be lost now."""
        return [worker for worker in self.workers if worker.pid is not None and not worker.frozen]


@asynccontextmanager
async def open_house(path: Path, *, scenarios: str, workers: int, encrypted: bool) -> AsyncIterator[House]:
    """Start everything below `path`; stop it after the block. Raises `StackError`.

    Args:
        encrypted: whether sessions are, under a master key of the house's own.
    """
    home = Home(path)
    home.prepare()
    script = home.path / "scenarios.yaml"
    script.write_text(scenarios)
    passwords = Passwords.of(home)
    temporal = TemporalServer(
        binary=packaged_binary(),
        port=ports.free_port(),
        http_port=ports.free_port(),
        database=home.temporal_database,
    )
    postgres = Postgres(data=home.postgres, port=ports.free_port(), password=passwords.superuser)
    model = _service("model", "holdfast_workers.scripted_model", "--scenarios", str(script))
    desk = _service("travel-desk", "travel_desk.services", "--data", str(home.path / "travel-desk"))
    chosen = {one.name: ports.free_port() for one in (model, desk)}
    addresses = Addresses(
        temporal=temporal.address,
        namespace=NAMESPACE,
        temporal_http=temporal.http_url,
        ui=temporal.http_url,
        migrate_dsn=postgres.dsn(),
        app_dsn=postgres.dsn(user=APP, password=passwords.app),
        auditor_dsn=postgres.dsn(user=AUDITOR, password=passwords.auditor),
        services={one.name: one.url(chosen[one.name]) for one in (model, desk)},
    )
    servers = [
        Server(patient(spec), home.log(spec.name))
        for spec in (
            postgres.spec(MANY_CONNECTIONS),
            replace(temporal.spec(), stop_signal=signal.SIGTERM),
            *(one.spec(chosen[one.name]) for one in (model, desk)),
        )
    ]
    armory = Armory(home.path / "armed")
    armory.path.mkdir(exist_ok=True)
    keys = KeySettings(file=make_keys(home) if encrypted else None)
    places = [
        Worker(patient(spec), home.log(spec.name))
        for spec in (worker_spec(number, home, addresses, armory, keys) for number in range(1, workers + 1))
    ]
    services = Services(desk=addresses.services["travel-desk"], model=addresses.services["model"])
    try:
        await postgres.initialise()
        remove_stale_lock(postgres.data)
        await together(*(server.start() for server in servers))
        await postgres.create_database()
        await migrate(addresses)
        await ensure_logins(postgres, passwords)
        await prepare_notes(addresses.migrate_dsn)
        await together(*(worker.start() for worker in places))
        yield House(
            home=home,
            addresses=addresses,
            postgres_data=postgres.data,
            temporal_database=home.temporal_database,
            postgres=servers[0],
            temporal=servers[1],
            workers=tuple(places),
            services=services,
            armory=armory,
            settings=client_settings(home.path, addresses, keys),
        )
    finally:
        await services.close()
        await together(*(worker.stop() for worker in places))
        for pid in servers[0].pids():
            os.kill(pid, signal.SIGCONT)
        await together(*(server.stop() for server in servers))


def make_keys(home: Home) -> Path:
    """A file with one new master key."""
    file = home.path / "master-keys"
    file.write_text(f"chaos:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n")
    file.chmod(0o600)
    return file


def worker_spec(number: int, home: Home, addresses: Addresses, armory: Armory, keys: KeySettings) -> ProcessSpec:
    port = ports.free_port()
    embedded = Embedded(
        home=home.path, config=agents_file(), task_queue=TASK_QUEUE, model=ModelSettings(scripted=True)
    )
    environment = embedded.worker_environment(addresses, os.environ)
    return ProcessSpec(
        name=f"worker-{number}",
        argv=(
            *(sys.executable, "-m", "holdfast_workers.chaos.worker"),
            *("--health-port", str(port), "--faults", str(armory.path)),
        ),
        env={
            **environment,
            KEYS: "",
            KMS: "",
            KEYS_FILE: str(keys.file or ""),
            "TRAVEL_DESK_URL": addresses.services["travel-desk"],
        },
        cwd=home.path,
        ready=http_probe(f"http://{ports.LOOPBACK}:{port}/healthz"),
        stop_signal=signal.SIGKILL,  # the only one that ends a frozen process whose parent has gone
    )


def client_settings(home: Path, addresses: Addresses, keys: KeySettings) -> Settings:
    return Settings(
        home=home,
        config=agents_file(),
        dsn=addresses.app_dsn,
        migrate_dsn=addresses.migrate_dsn,
        task_queue=TASK_QUEUE,
        keys=keys,
        temporal=TemporalSettings(address=addresses.temporal, namespace=addresses.namespace, embedded=True),
    )


def agents_file() -> Path:
    """The chaos agent's `holdfast.toml`."""
    return Path(str(files("holdfast_workers.chaos") / "holdfast.toml"))


def patient(spec: ProcessSpec) -> ProcessSpec:
    return replace(spec, ready_within_s=START_WITHIN_S)


async def run_sql(dsn: str, name: str, *arguments: object) -> list[tuple[object, ...]]:
    """Run one statement of `chaos/sql` on a connection of its own; its rows."""
    async with connected(dsn) as connection:
        return [tuple(row) for row in await connection.fetch(sql(name), *arguments, timeout=SQL_WITHIN_S)]


async def prepare_notes(dsn: str) -> None:
    """Make the table that the transactional tool writes to."""
    async with connected(dsn) as connection:
        await connection.execute(sql("note_table"))


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    import asyncpg

    connection = await asyncpg.connect(dsn, timeout=SQL_WITHIN_S)
    try:
        yield connection
    finally:
        connection.terminate()  # a server that stands still would not take part in a polite end


def sql(name: str) -> str:
    return files("holdfast_workers.chaos").joinpath(f"sql/{name}.sql").read_text()


def _service(name: str, module: str, *arguments: str) -> Service:
    argv = (sys.executable, "-m", module, "--port", "{port}", *arguments)
    return Service(name=name, argv=argv, preferred_port=0)
