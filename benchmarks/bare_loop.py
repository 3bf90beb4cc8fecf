"""The bare loop: what is left of an agent session on Temporal when everything that makes it safe is taken away.

No ledger, no leases, no approvals, no cancellation, nothing kept of the conversation: its requests are rebuilt from
the number of the turn. A loop that carried its messages in activity inputs would cost more with every turn.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from benchmarks import bare_contracts
    from benchmarks.bare_contracts import Ask, Job

RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=15))
TIMEOUT = timedelta(minutes=10)


@workflow.defn
class BareLoop:
    @workflow.run
    async def run(self, job: Job) -> int:
        """Returns the number of turns with a call."""
        turn = 0
        while True:
            said = await workflow.execute_activity(
                bare_contracts.ask_model,
                Ask(job=job, turn=turn),
                activity_id=f"turn-{turn}",
                summary=f"turn {turn}: scripted",
                start_to_close_timeout=TIMEOUT,
                retry_policy=RETRY,
            )
            if said.call is None:
                return turn
            await workflow.execute_activity(
                bare_contracts.look,
                said.call,
                activity_id=f"turn-{turn}.look",
                summary=f"look {said.call.what}",
                start_to_close_timeout=TIMEOUT,
                retry_policy=RETRY,
            )
            turn += 1
