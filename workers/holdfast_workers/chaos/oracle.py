"""What really happened, held against what the sessions and the ledger say happened.

The services' own log is the truth. An intent carried out twice is a duplicate under whatever key; a write reported
done that no service carried out is lost; one carried out that the ledger knows nothing of is unreported. Nothing
stands of what was undone, and nothing was undone of what is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from temporalio.client import WorkflowExecutionStatus

from holdfast.states import EffectState, SagaState, SessionStatus
from holdfast_ledger.chain import Verdict
from holdfast_ledger.verify import verify_all
from holdfast_ledger.views import Effect, Saga
from holdfast_workers.chaos.crowd import Crowd
from holdfast_workers.chaos.house import House, run_sql
from holdfast_workers.chaos.people import Resolver
from holdfast_workers.chaos.services import EFFECT, Carried
from holdfast_workers.chaos.shapes import UNDO, WRITES


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What everybody said at the end."""

    carried: Sequence[Carried]
    effects: Sequence[Effect]
    """The ledger's, of writes and their undos."""
    sagas: Sequence[Saga]
    reported: Mapping[str, frozenset[str]]
    """By session: the effects that it believes it carried out, from its last words."""
    stuck: Mapping[str, str]
    """Sessions that neither ended nor say why they hold."""
    failed: Mapping[str, str]
    chains: Sequence[Verdict]
    needless_doubts: Sequence[Effect]
    _by_effect: dict[str, Effect] = field(init=False, default_factory=dict)
    _saga_states: dict[str, SagaState] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_effect.update({one.effect_id: one for one in self.effects})
        self._saga_states.update({one.id: one.state for one in self.sagas})

    @property
    def duplicates(self) -> list[str]:
        """Intents carried out more than once, once for each time too many."""
        times = Counter(one.intent for one in self.carried)
        return [intent for intent, count in times.items() for _ in range(count - 1)]

    @property
    def lost(self) -> list[str]:
        """Effects that the ledger or a session reports done, and no service carried out."""
        done = {one.effect_id for one in self.effects if one.state is EffectState.DONE}
        believed = frozenset[str]().union(*self.reported.values())
        return sorted((done | believed) - {one.effect_id for one in self.carried})

    @property
    def unreported(self) -> list[str]:
        """Effects that a service carried out, and the ledger says were not."""
        known = self._by_effect
        return sorted(
            {
                one.effect_id
                for one in self.carried
                if one.effect_id not in known or known[one.effect_id].state is not EffectState.DONE
            }
        )

    @property
    def standing(self) -> list[str]:
        """Effects carried out and never taken back, although the ledger says that nothing of their saga stands."""
        taken_back = self._taken_back
        return sorted(
            one.effect_id
            for one in self.carried
            if self._saga_of(one.effect_id) is SagaState.ABORTED
            and not one.undoes
            and one.effect_id not in taken_back
        )

    @property
    def undone_in_vain(self) -> list[str]:
        """Effects taken back that are to be kept, or that no service ever carried out."""
        landed = {one.effect_id for one in self.carried if not one.undoes}
        return sorted(
            effect
            for effect in self._taken_back
            if effect not in landed or self._saga_of(effect) is SagaState.COMMITTED
        )

    @property
    def unfinished(self) -> list[str]:
        """Sagas that neither committed nor were undone, and why."""
        ended = (SagaState.COMMITTED, SagaState.ABORTED)
        return [
            f"{one.id} {one.state}: {one.reason or 'no reason'}" for one in self.sagas if one.state not in ended
        ]

    def saga_counts(self, given_up: Mapping[str, str | None]) -> dict[str, int]:
        """How sagas ended, and what was undone; as the report's `sagas`."""
        states = Counter(one.state for one in self.sagas)
        kinds = Counter(given_up.values())
        return {
            "committed": states[SagaState.COMMITTED],
            "aborted": states[SagaState.ABORTED],
            "unfinished": len(self.unfinished),
            "sessions_aborted": kinds["abort"],
            "sessions_terminated": kinds["session_terminated"],
            "undone": len(self._taken_back),
            "standing": len(self.standing),
        }

    @property
    def _taken_back(self) -> set[str]:
        """Effects that the services took back."""
        return {one.undoes for one in self.carried if one.undoes}

    def _saga_of(self, effect_id: str) -> SagaState | None:
        """How the saga of an effect ended."""
        effect = self._by_effect.get(effect_id)
        return self._saga_states.get(effect.saga_id) if effect else None

    @property
    def unsettled(self) -> list[str]:
        """Effects still in doubt at the end."""
        return [one.effect_id for one in self.effects if one.state is EffectState.UNKNOWN]

    @property
    def verified(self) -> bool:
        return bool(self.chains) and all(chain.ok for chain in self.chains)

    def suspects(self) -> set[str]:
        """Sessions whose records somebody should read."""
        bad = {*self.lost, *self.unreported, *self.unsettled, *self.standing, *self.undone_in_vain}
        bad |= {one.effect_id for one in self.needless_doubts}
        twice = set(self.duplicates)
        bad |= {one.effect_id for one in self.carried if one.intent in twice}
        sessions = {self._by_effect[effect].session_id for effect in bad if effect in self._by_effect}
        sessions |= {
            one.session_id for one in self.sagas if one.state not in (SagaState.COMMITTED, SagaState.ABORTED)
        }
        return sessions | {*self.stuck, *self.failed} | {chain.session_id for chain in self.chains if not chain.ok}


async def ask_everybody(crowd: Crowd, house: House, resolver: Resolver) -> Truth:
    """Every server must be up."""
    client = crowd.client
    notes = [
        Carried(str(intent), str(effect)) for intent, effect in await run_sql(house.addresses.migrate_dsn, "notes")
    ]
    await crowd.look()
    ended = await _ended(crowd)
    return Truth(
        carried=[*await house.services.carried_out(), *notes],
        effects=[one for one in await client.reader.effects() if one.tool in (*WRITES, UNDO)],
        sagas=await client.reader.sagas(),
        reported={one: await _last_words(crowd, one) for one in ended if one not in crowd.terminated},
        stuck={one: _how_it_stands(crowd, one) for one in crowd.numbers if one not in ended},
        failed={
            one.id: one.status_reason or "no reason"
            for one in crowd.sessions.values()
            if one.status in (SessionStatus.FAILED, SessionStatus.ABORTED) and not crowd.given_up.get(one.id)
        },
        chains=[verdict async for verdict in verify_all(client.ledger.database)],
        needless_doubts=resolver.needless,
    )


async def _ended(crowd: Crowd) -> list[str]:
    """Sessions that ended for the ledger and for Temporal, and those that were terminated."""
    ended = []
    for one in crowd.numbers:
        described = await crowd.client.temporal.get_workflow_handle(one).describe()
        session = crowd.sessions.get(one)
        told = one in crowd.terminated or (session is not None and session.status.ended)
        if told and described.status is not WorkflowExecutionStatus.RUNNING:
            ended.append(one)
    return ended


async def _last_words(crowd: Crowd, session_id: str) -> frozenset[str]:
    result = await crowd.client.result(session_id)
    digest = result.answer_digest
    said = (await crowd.client.reader.content(session_id, [digest])).get(digest) if digest else None
    return frozenset(EFFECT.findall(str(said)))


def _how_it_stands(crowd: Crowd, session_id: str) -> str:
    session = crowd.sessions.get(session_id)
    return f"{session.status}: {session.status_reason or 'no reason'}" if session else "not in the ledger"
