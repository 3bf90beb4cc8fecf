"""Gauges show what stands in Postgres, and nothing at all while Postgres cannot say."""

from __future__ import annotations

from datetime import timedelta

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from holdfast.states import SagaState, SessionStatus
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.standing import Standing, read_standing
from holdfast_workers.telemetry import names
from holdfast_workers.telemetry.gauges import Gauges
from tests.waiting import until

SOON = timedelta(milliseconds=20)
ROWS = """
    INSERT INTO holdfast.session (id, agent, requested_by, status)
    VALUES ('a', 'default', 'ann', 'waiting'), ('b', 'default', 'ann', 'held'), ('c', 'default', 'bob', 'held'),
           ('d', 'default', 'bob', 'completed');
    INSERT INTO holdfast.approval (session_key, call, digest, asked_at, state)
    SELECT session_key, '1.1', state, now(), state
    FROM holdfast.session, unnest(ARRAY['pending', 'approved']) AS state WHERE id IN ('a', 'b');
    INSERT INTO holdfast.saga (id, session_key, request, state)
    SELECT id || '/' || state, session_key, 1, state
    FROM holdfast.session, unnest(ARRAY['STUCK', 'COMMITTED']) AS state WHERE id IN ('a', 'd');
"""


class Read:
    """What an exporter would see."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.gauges = Gauges(self._provider.get_meter("test"), every=SOON)

    def values(self, name: str) -> dict[str | None, float]:
        data = self._reader.get_metrics_data()
        return {
            next(iter((point.attributes or {}).values()), None): point.value
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }


async def test_one_query_counts_what_waits_what_is_unknown_and_sessions_that_live(ledger, owner):
    await owner.execute(ROWS)
    standing = await read_standing(ledger.database)
    assert (standing.approvals_waiting, standing.effects_unknown) == (2, 0)
    assert {status: number for status, number in standing.sessions.items() if number} == {
        SessionStatus.WAITING: 1,
        SessionStatus.HELD: 2,
    }
    assert SessionStatus.COMPLETED not in standing.sessions
    assert {state: number for state, number in standing.sagas.items() if number} == {SagaState.STUCK: 2}
    assert SagaState.COMMITTED not in standing.sagas


async def test_gauges_follow_the_ledger_and_show_nothing_while_it_does_not_answer():
    read = Read()
    here = Standing(
        approvals_waiting=3, effects_unknown=1, sessions={SessionStatus.IDLE: 7}, sagas={SagaState.HELD: 2}
    )
    answers: list[Standing | Exception] = [here]

    async def count() -> Standing:
        answer = answers[-1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert read.values(names.APPROVALS_WAITING) == {}
    async with read.gauges.watching(count):
        assert read.values(names.APPROVALS_WAITING) == {None: 3}
        assert read.values(names.EFFECTS_UNKNOWN) == {None: 1}
        assert read.values(names.SESSIONS) == {"idle": 7}
        assert read.values(names.SAGAS) == {"HELD": 2}
        answers.append(LedgerUnavailable("Postgres is away"))
        await until(lambda: read.values(names.APPROVALS_WAITING) == {}, "no count")
        answers.append(Standing(approvals_waiting=0, effects_unknown=0, sessions={}, sagas={}))
        await until(lambda: read.values(names.APPROVALS_WAITING) == {None: 0}, "a count")
