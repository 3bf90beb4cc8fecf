"""What a worker's activities work with, opened once per process and closed with it."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from holdfast.config import Config
from holdfast_activities.compensate import Compensations
from holdfast_activities.dead_sessions import Endings
from holdfast_activities.execute_call import CallExecutions
from holdfast_activities.faults import FaultPoints, no_faults
from holdfast_activities.messages_api.client import open_client
from holdfast_activities.model_turn import ModelTurns
from holdfast_activities.opening import Openings
from holdfast_activities.orphans import Orphans
from holdfast_activities.probe_call import Probings
from holdfast_activities.resources import Resources
from holdfast_activities.saga_openings import SagaOpenings
from holdfast_activities.saga_steps import StepExecutions
from holdfast_activities.settle_effect import Settlements
from holdfast_activities.unwinding import Unwindings
from holdfast_ledger.errors import WrongTemporal
from holdfast_ledger.standing import read_standing
from holdfast_ledger.stream import Flusher
from holdfast_sagas.registry import serve
from holdfast_workers.builds import Build, load_build
from holdfast_workers.checkpoints import checkpoints_kept
from holdfast_workers.deploys import BuildLacksCode, missing_code
from holdfast_workers.known_secrets import redactor_of
from holdfast_workers.settings import Settings, SettingsError
from holdfast_workers.telemetry.worker import OFF, WorkerTelemetry
from holdfast_workers.temporal import identity
from holdfast_workflows import attributes

if TYPE_CHECKING:
    from holdfast_activities.messages_api.client import ModelClient
    from holdfast_ledger.store import Ledger

POOL = 20
"""Postgres connections of one worker: a call holds one only while it claims or records."""


@dataclass(frozen=True, kw_only=True)
class Work:
    ledger: Ledger
    sessions: Openings
    turns: ModelTurns | None
    """None where this process serves no model calls."""
    calls: CallExecutions
    probes: Probings
    sagas: SagaOpenings
    steps: StepExecutions
    compensations: Compensations
    settlements: Settlements
    unwindings: Unwindings
    orphans: Orphans
    endings: Endings


@asynccontextmanager
async def open_work(
    settings: Settings,
    client: Client,
    *,
    environ: Mapping[str, str] = os.environ,
    telemetry: WorkerTelemetry = OFF,
    faults: FaultPoints = no_faults,
    build: Build | None = None,
    task_queue: str | None = None,
    model: bool = True,
) -> AsyncIterator[Work]:
    """Connect to Postgres, check that it belongs to this Temporal, open what the activities work with.

    Args:
        build: what this process has loaded already; read from the settings otherwise.
        task_queue: the sessions' own, where that is not the settings'.
        model: whether model calls are served; without them no model is configured, and no key needed.

    Raises:
        SettingsError, ConfigError, DeclarationError: the surroundings or the configuration cannot be used.
        BadKey: the key for checkpoints cannot be used.
        TemporalUnavailable, NamespaceMissing: Temporal cannot be used.
        LedgerUnavailable, SchemaMismatch, WrongTemporal: Postgres cannot be used.
        BuildLacksCode: open sagas need code that is not here.
    """
    from holdfast_workers.client import connect_ledger

    build = build or load_build(settings)
    config, book = build.config, build.book
    serve(build.sagas)
    async with AsyncExitStack() as opened:
        if config.ledger.encryption == "required" and not settings.keys.configured:
            raise SettingsError(
                "`[ledger] encryption` is required, and this worker has no master key: set HOLDFAST_MASTER_KEYS, "
                "HOLDFAST_MASTER_KEYS_FILE or HOLDFAST_KMS."
            )
        ledger = await connect_ledger(settings, max_size=POOL)
        opened.push_async_callback(ledger.close)
        cluster_id, namespace = await identity(client)
        await ledger.check(cluster_id=cluster_id, namespace=namespace)
        if missing := await missing_code(ledger, book, build.sagas, task_queue or settings.task_queue):
            raise BuildLacksCode(missing)
        await opened.enter_async_context(checkpoints_kept(ledger.database, settings))
        client_of_model = await opened.enter_async_context(_model_client(settings)) if model else None
        flusher = await opened.enter_async_context(Flusher(ledger))

        async def stranger() -> str:
            """Temporal may be emptied, or another one answer, while this worker serves."""
            try:
                cluster_id, namespace = await identity(client)
                await ledger.check(cluster_id=cluster_id, namespace=namespace)
            except WrongTemporal as error:
                return str(error)
            return ""

        worker = f"{os.getpid()}@{socket.gethostname()}"
        calls = CallExecutions(
            ledger=ledger,
            book=book,
            resources=resources_of(config, build.directory, ledger, environ),
            secrets={name: environ[name] for name in config.secrets.allow if name in environ},
            redactor=redactor_of(config, settings, environ),
            worker=worker,
            observe=telemetry.observe_call,
            effects=config.effects,
            faults=faults,
        )
        opened.push_async_callback(calls.close)
        await opened.enter_async_context(telemetry.watching(lambda: read_standing(ledger.database)))
        searchable = await has_search_attributes(client)
        queues = config.queues.planned
        yield Work(
            ledger=ledger,
            sessions=Openings(
                ledger=ledger,
                book=book,
                lease=config.effects.lease,
                search_attributes=searchable,
                queues=queues,
                faults=faults,
            ),
            turns=ModelTurns(
                ledger=ledger,
                client=client_of_model,
                book=book,
                chunks=flusher,
                worker=worker,
                prices=config.price_table,
                effects=config.effects,
                observe=telemetry.observe_turn,
                faults=faults,
            )
            if client_of_model
            else None,
            calls=calls,
            probes=Probings(calls.surroundings),
            sagas=SagaOpenings(
                ledger=ledger,
                book=book,
                lease=config.effects.lease,
                search_attributes=searchable,
                queues=queues,
            ),
            steps=StepExecutions(calls.surroundings),
            compensations=Compensations(calls.surroundings),
            settlements=Settlements(calls.surroundings),
            unwindings=Unwindings(
                ledger=ledger, lease=config.effects.lease, search_attributes=searchable, queues=queues
            ),
            orphans=Orphans(ledger.sagas, client, stranger),
            endings=Endings(ledger, client, stranger),
        )


@asynccontextmanager
async def _model_client(settings: Settings) -> AsyncIterator[ModelClient]:
    client = open_client(settings.model)
    try:
        yield client
    finally:
        await client.close()


async def has_search_attributes(client: Client) -> bool:
    """Whether this namespace has all of Holdfast's search attributes; without them only search is lost."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        known = await client.operator_service.list_search_attributes(request)
    except RPCError:
        return False  # some clusters keep the operator API to themselves
    return {attribute.name for attribute in attributes.ALL} <= set(known.custom_attributes)


def resources_of(config: Config, directory: Path, ledger: Ledger, environ: Mapping[str, str]) -> Resources:
    workspace = directory / config.workspace.path
    if not workspace.is_dir():
        raise SettingsError(f"The workspace `{workspace}` is no directory; set `[workspace] path`.")
    return Resources(
        workspace=workspace.resolve(),
        http=config.http,
        sql=config.sql,
        sql_dsn=environ.get(config.sql.dsn_env) if config.sql.dsn_env else None,
        read_result=ledger.result,
    )
