"""`python -m benchmarks.ledger`: how fast entries are appended and verified, and how many bytes one takes.

PostgreSQL with its durable defaults in a directory of its own, one process that writes as a worker does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from holdfast.facts import Fact, Kind
from holdfast_ledger.checkpointing import make_checkpoint
from holdfast_ledger.migrate import migrate
from holdfast_ledger.records import Registration
from holdfast_ledger.signing import SigningKey, new_key
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_all
from holdfast_workers.stack.home import new_password
from holdfast_workers.stack.ports import free_port
from holdfast_workers.stack.postgres import Postgres
from holdfast_workers.stack.processes import ChildProcess

AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
REASON = "Allowed by the policy of this agent: the tool is of tier reversible, and the amount is below its limit."
SIZES = (
    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c "
    "WHERE c.relnamespace = 'holdfast'::regnamespace "
    "AND (c.relname LIKE 'entry%' AND c.relkind = 'r' OR c.relname = 'chain')"
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    sessions: int = 8
    entries: int = 20_000
    """Appended one a transaction, over all sessions."""
    batch: int = 5
    """Facts of one transaction in the second run: what a model turn with a call tells at once."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Per second, but for the bytes of an entry with its indexes and its row's share of the chain."""

    appended_alone: float
    appended_in_batches: float
    verified: float
    checkpoint_ms: float
    bytes_per_entry: float
    load: float


async def measure(home: Path, plan: Plan) -> Found:
    postgres = Postgres(data=home / "postgres", port=free_port(), password=new_password())
    await postgres.initialise()
    server = await ChildProcess.spawn(postgres.spec({}), home / "postgres.log")
    try:
        await server.until_ready()
        await postgres.create_database()
        return await measure_at(postgres.dsn(), plan)
    finally:
        await server.stop()


async def measure_at(dsn: str, plan: Plan) -> Found:
    """In an empty database."""
    await migrate(dsn)
    ledger = await Ledger.connect(dsn, min_size=plan.sessions, max_size=plan.sessions)
    owner = await asyncpg.connect(dsn)
    try:
        sessions = [f"bench-{number}" for number in range(plan.sessions)]
        for session in sessions:
            await ledger.register(
                Registration(session_id=session, agent="bench", start_digest="0" * 64, requested_by="bench")
            )
        before = await owner.fetchval(SIZES)
        alone = await appended(ledger, sessions, plan.entries // plan.sessions, 1)
        after = await owner.fetchval(SIZES)
        batches = await appended(ledger, sessions, plan.entries // plan.sessions // plan.batch, plan.batch)
        verified = await verified_per_second(ledger)
        key = SigningKey.of_pem(new_key())
        began = time.perf_counter()
        await make_checkpoint(ledger.database, key, wait=True)
        return Found(
            appended_alone=alone,
            appended_in_batches=batches,
            verified=verified,
            checkpoint_ms=(time.perf_counter() - began) * 1000,
            bytes_per_entry=(after - before) / plan.entries,
            load=os.getloadavg()[0],
        )
    finally:
        await owner.close()
        await ledger.close()


async def appended(ledger: Ledger, sessions: list[str], rounds: int, batch: int) -> float:
    """Entries a second, all sessions at the same time, each transaction committed before the session's next."""

    async def one(session: str) -> None:
        for number in range(rounds):
            await ledger.append(session, tuple(fact(f"{batch}/{number}/{place}") for place in range(batch)))

    began = time.perf_counter()
    await asyncio.gather(*(one(session) for session in sessions))
    return len(sessions) * rounds * batch / (time.perf_counter() - began)


def fact(key: str) -> Fact:
    """A decision of the policy, as large as most entries are."""
    return Fact(
        key=f"call/{key}/decided",
        kind=Kind.CALL_DECIDED,
        at=AT,
        turn=12,
        call="12.1",
        effect_id="e" * 64,
        saga_id="0198a7c2-7c1e-7000-8000-000000000000/request-1",
        tool="book_hotel",
        outcome="allow",
        body={"digest": "d" * 64, "rule": "tier", "reason": REASON},
    )


async def verified_per_second(ledger: Ledger) -> float:
    began = time.perf_counter()
    verdicts = [verdict async for verdict in verify_all(ledger.database)]
    took = time.perf_counter() - began
    if bad := [verdict.problem for verdict in verdicts if not verdict.ok]:
        raise SystemExit(f"benchmark: the ledger does not verify: {bad}")
    return sum(verdict.entries for verdict in verdicts) / took


def table(found: Found, plan: Plan) -> Table:
    shown = Table("what", "found", "bar", title=f"The ledger, {plan.sessions} sessions, load {found.load:.1f}")
    shown.add_row("entries appended a second, one a transaction", f"{found.appended_alone:,.0f}", "≥ 2,000")
    shown.add_row(f"the same, {plan.batch} a transaction", f"{found.appended_in_batches:,.0f}", "")
    shown.add_row("entries verified a second", f"{found.verified:,.0f}", "≥ 50,000")
    shown.add_row("a checkpoint over them, ms", f"{found.checkpoint_ms:.1f}", "")
    shown.add_row("bytes of an entry, indexes and all", f"{found.bytes_per_entry:,.0f}", "")
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.ledger", description="What the ledger appends and verifies.")
    parser.add_argument("--sessions", type=int, default=Plan.sessions, help="sessions that append at the same time")
    parser.add_argument("--entries", type=int, default=Plan.entries, help="entries of each run")
    options = parser.parse_args()
    plan = Plan(sessions=options.sessions, entries=options.entries)
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        os.chmod(directory, 0o755)  # as root, PostgreSQL runs as another user
        found = asyncio.run(measure(Path(directory), plan))
    Console(width=100).print(table(found, plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
