"""What of an erased session's contents lives on elsewhere, and until when, as far as anybody here can know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from holdfast.errors import HoldfastError
from holdfast_ledger.privacy import readings
from holdfast_ledger.store import Ledger


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """`until` None: nobody here knows."""

    where: str
    what: str
    until: datetime | None = None


BACKUPS = Leftover(
    where="backups of Postgres made before now, and its write-ahead log",
    what="the wrapped key and all that it opens, for whoever has the master key: `holdfast ledger rotate-key`, "
    "then destroy the old master key",
)
PROVIDERS = Leftover(
    where="the model's provider and the services that tools called", what="what was sent to them, under their rules"
)


async def leftovers(
    connect: Callable[[], Awaitable[Client]], ledger: Ledger, session_id: str
) -> tuple[Leftover, ...]:
    """Raises `LedgerUnavailable`; that Temporal cannot be asked is part of the answer."""
    read = [
        Leftover(
            where=f"wherever {each.by} keeps what `{each.command}` showed on {each.at:%Y-%m-%d %H:%M} UTC",
            what="contents in clear",
        )
        for each in await readings(ledger.database, session_id)
    ]
    return (await _in_temporal(connect, session_id), *read, BACKUPS, PROVIDERS)


async def _in_temporal(connect: Callable[[], Awaitable[Client]], session_id: str) -> Leftover:
    what = "inline text: previews of arguments, questions, reasons, texts of failures"
    where = f"Temporal's history of the workflow `{session_id}`"
    try:
        client = await connect()
        found = await client.get_workflow_handle(session_id).describe()
        namespace = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace)
        )
    except (RPCError, HoldfastError, RuntimeError) as error:  # the last is what the SDK raises without a server
        if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
            return Leftover(where=where, what="nothing: it is not retained any more")
        return Leftover(where=where, what=f"{what}; Temporal could not be asked until when")
    kept_for = namespace.config.workflow_execution_retention_ttl.ToTimedelta()
    return Leftover(where=where, what=what, until=found.close_time + kept_for if found.close_time else None)
