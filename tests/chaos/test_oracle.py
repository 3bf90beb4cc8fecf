"""The oracle sees what it is there to see."""

import pytest

from holdfast.states import EffectState, RecoveryClass, SagaState
from holdfast_ledger.verify import Verdict
from holdfast_ledger.views import Effect, Saga
from holdfast_workers.chaos.oracle import Truth
from holdfast_workers.chaos.report import broken_by
from holdfast_workers.chaos.services import Carried, carried


def truth(
    *,
    carried_out: list[Carried] | None = None,
    states: dict[str, EffectState] | None = None,
    believed: frozenset[str] = frozenset(),
    problem: str | None = None,
    needless: tuple[str, ...] = (),
    saga: SagaState = SagaState.COMMITTED,
) -> Truth:
    """A run with one good effect, and what a test adds."""
    known = {"good": EffectState.DONE, **(states or {})}
    effects = [
        Effect.model_construct(
            effect_id=name,
            state=state,
            session_id=f"of-{name}",
            saga_id=f"saga-of-{name}",
            tool="pay",
            recovery=RecoveryClass.PROBE,
        )
        for name, state in known.items()
    ]
    return Truth(
        carried=[Carried("S-1-10", "good"), *(carried_out or [])],
        effects=effects,
        sagas=[
            Saga.model_construct(id=one.saga_id, session_id=one.session_id, state=saga, reason="a person decides")
            for one in effects
            if one.effect_id == "good"
        ],
        reported={"of-good": frozenset({"good"}) | believed},
        stuck={},
        failed={},
        chains=[Verdict(session_id="of-good", entries=3, problem=problem, bad_seq=2 if problem else None)],
        needless_doubts=[one for one in effects if one.effect_id in needless],
    )


def test_a_good_run_breaks_no_promise() -> None:
    assert broken_by(truth()) == []


def test_an_intent_carried_out_twice_under_two_keys_is_a_duplicate() -> None:
    found = truth(
        carried_out=[Carried("S-1-11", "first"), Carried("S-1-11", "second")],
        states={"first": EffectState.DONE, "second": EffectState.DONE},
    )

    assert found.duplicates == ["S-1-11"]
    assert found.suspects() == {"of-first", "of-second"}
    assert len(broken_by(found)) == 1


def test_an_effect_recorded_as_done_that_nobody_carried_out_is_lost() -> None:
    assert truth(states={"gone": EffectState.DONE}).lost == ["gone"]


def test_an_effect_that_only_the_session_believes_in_is_lost_too() -> None:
    assert truth(believed=frozenset({"dreamt"})).lost == ["dreamt"]


def test_an_effect_carried_out_and_recorded_as_failed_is_unreported() -> None:
    found = truth(carried_out=[Carried("S-1-11", "hidden")], states={"hidden": EffectState.FAILED})

    assert found.unreported == ["hidden"]
    assert found.lost == []


def test_an_effect_that_no_ledger_knows_is_unreported() -> None:
    assert truth(carried_out=[Carried("S-1-11", "stranger")]).unreported == ["stranger"]


def test_doubt_about_what_the_class_can_tell_breaks_a_promise() -> None:
    assert len(broken_by(truth(needless=("good",)))) == 1


def test_doubt_left_at_the_end_breaks_a_promise() -> None:
    assert len(broken_by(truth(states={"who-knows": EffectState.UNKNOWN}))) == 1


def test_what_stands_of_a_saga_that_was_undone_breaks_a_promise() -> None:
    found = truth(saga=SagaState.ABORTED)

    assert found.standing == ["good"]
    assert found.suspects() == {"of-good"}


UNDONE = Carried("undo of S-1-10", "good:undo")


def test_what_the_services_took_back_does_not_stand() -> None:
    found = truth(carried_out=[UNDONE], states={"good:undo": EffectState.DONE}, saga=SagaState.ABORTED)

    assert broken_by(found) == []
    assert found.saga_counts({"of-good": "abort"})["undone"] == 1


def test_an_effect_taken_back_twice_is_a_duplicate() -> None:
    found = truth(carried_out=[UNDONE] * 2, states={"good:undo": EffectState.DONE}, saga=SagaState.ABORTED)

    assert found.duplicates == ["undo of S-1-10"]


def test_taking_back_what_is_kept_or_never_was_breaks_a_promise() -> None:
    never = Carried("undo of S-1-11", "never:undo")
    states = {"good:undo": EffectState.DONE, "never:undo": EffectState.DONE}

    assert truth(carried_out=[UNDONE, never], states=states).undone_in_vain == ["good", "never"]


@pytest.mark.parametrize("state", [SagaState.OPEN, SagaState.UNWINDING, SagaState.HELD, SagaState.STUCK])
def test_a_saga_that_never_ends_breaks_a_promise(state: SagaState) -> None:
    assert truth(saga=state).unfinished == [f"saga-of-good {state}: a person decides"]
    assert len(broken_by(truth(saga=state))) == 1


def test_a_chain_that_does_not_verify_breaks_a_promise() -> None:
    found = truth(problem="entry 2 is missing")

    assert not found.verified
    assert found.suspects() == {"of-good"}


def test_a_log_entry_says_what_for_and_in_whose_name() -> None:
    key = "0f" * 32
    entry = {"arguments": {"amount_cents": 100, "booking_id": "LOAD-3", "reason": f"S-3-21 {key}"}}

    assert carried(entry) == Carried("S-3-21", key)
    assert carried(entry).session == 3
    undo = carried({"arguments": {"reason": f"undo of S-3-21 {key}:undo"}})
    assert (undo, undo.undoes, undo.session) == (Carried("undo of S-3-21", f"{key}:undo"), key, None)
