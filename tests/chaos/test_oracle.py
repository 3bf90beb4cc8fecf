"""The oracle sees what it is there to see."""

from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.verify import Verdict
from holdfast_ledger.views import Effect
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
) -> Truth:
    """A run with one good effect, and what a test adds."""
    known = {"good": EffectState.DONE, **(states or {})}
    effects = [
        Effect.model_construct(
            effect_id=name, state=state, session_id=f"of-{name}", tool="pay", recovery=RecoveryClass.PROBE
        )
        for name, state in known.items()
    ]
    return Truth(
        carried=[Carried("S-1-10", "good"), *(carried_out or [])],
        effects=effects,
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


def test_a_chain_that_does_not_verify_breaks_a_promise() -> None:
    found = truth(problem="entry 2 is missing")

    assert not found.verified
    assert found.suspects() == {"of-good"}


def test_a_log_entry_says_what_for_and_in_whose_name() -> None:
    key = "0f" * 32
    entry = {"arguments": {"amount_cents": 100, "booking_id": "LOAD-3", "reason": f"S-3-21 {key}"}}

    assert carried(entry) == Carried("S-3-21", key)
