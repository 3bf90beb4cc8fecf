"""Facts born in the workflow ride on every activity until one that carried them succeeds.

The same fact twice is one entry, so riding twice is harmless; not riding at all would be a lost fact.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from holdfast import contracts
from holdfast.contracts import FlushFacts
from holdfast.facts import Fact
from holdfast_workflows.state import SessionState

_FLUSH = "flush"


class Outbox:
    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._riding: dict[str, tuple[Fact, ...]] = {}

    def board(self, carrier: str) -> tuple[Fact, ...]:
        """All undelivered facts, for the activity `carrier` to append."""
        self._riding[carrier] = tuple(self._state.outbox)
        return self._riding[carrier]

    def ended(self, carrier: str, *, told: bool) -> None:
        """The carrier ended; `told` False: it did not reach the ledger, so its facts ride again."""
        keys = {fact.key for fact in self._riding.pop(carrier, ()) if told}
        self._state.outbox = [fact for fact in self._state.outbox if fact.key not in keys]

    async def flush(self, *, keep: bool = False) -> str | None:
        """Append what nothing in flight carries, by one short local activity.

        Returns why the session must hold, where Postgres does not know it; then all of it is told again later.

        Args:
            keep: tell it again later: this database is older than the session, and may give way to a newer one.
        """
        riding = {fact.key for facts in self._riding.values() for fact in facts}
        if all(fact.key in riding for fact in self._state.outbox):
            return None
        held = await workflow.execute_local_activity(
            contracts.flush_facts,
            FlushFacts(session_id=workflow.info().workflow_id, outbox=self.board(_FLUSH)),
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=contracts.SETTLE,
            summary="tell the ledger who is waited for",
        )
        self.ended(_FLUSH, told=not keep and held is None)
        return held
