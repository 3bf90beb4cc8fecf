"""Sagas and deploys through the command: how they end, what a person may say of one, what is refused in words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.states import SagaState
from holdfast_sagas import Registry
from holdfast_sagas.registry import serve, served
from holdfast_workers.stack.servers import ServerAddresses
from tests.cli.conftest import Cli, Done, command, point_at
from tests.conftest import House, OpenHouse
from tests.examples.travel.conftest import DeskProcess
from tests.sagas.bodies import hurried
from tests.sagas.conftest import CHEAPEST, NEW_DAY, Sagas, effect_of, opened
from tests.waiting import until
from tests.workflows.conftest import CONFIG, TOOLS

Say = Callable[..., Awaitable[Done]]
WITHIN_S = 40.0


@pytest.fixture(scope="module")
async def sagas(
    servers: ServerAddresses, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sagas]:
    desk = DeskProcess(tmp_path_factory.mktemp("desk"))
    async with opened(servers, template, desk, tmp_path_factory.mktemp("house")) as house:
        yield house
    desk.stop()


@pytest.fixture
def say(sagas: Sagas, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """`await say("saga", "list")`: one command line, at this house."""
    point_at(sagas, sagas.settings.home, monkeypatch)
    return partial(command, capsys)


async def trip(sagas: Sagas) -> str:
    (booking,) = await sagas.bookings(1)
    return json.dumps({"booking_id": booking, "date": NEW_DAY})


async def hurry(sagas: Sagas, mistake: str = "waits") -> dict[str, Any]:
    (booking,) = await sagas.bookings(1)
    return {"booking_id": booking, "flight_id": CHEAPEST, "mistake": mistake}


async def started(sagas: Sagas, say: Say, saga: str) -> Done:
    return await say(
        "saga", "start", "travel.rebook", "--args", await trip(sagas), "--id", saga, "--wait", "--json"
    )


async def until_state(sagas: Sagas, saga: str, state: SagaState) -> None:
    async def reached() -> bool:
        return (await sagas.holdfast.ledger.sagas.row(saga)).state is state

    await until(reached, f"{saga} to be {state}", within=WITHIN_S)


async def stuck(sagas: Sagas, say: Say) -> str:
    """A trip whose payment failed, and whose seat is not taken back."""
    saga = sagas.new_id()
    await sagas.breaks(saga, "money", "refuse_402")
    await sagas.desk.break_next("*", "refuse_402", key=f"{effect_of(saga, 'seat')}:undo")
    done = await started(sagas, say, saga)
    assert (done.code, done.json["outcome"]) == (6, "STUCK"), done.err
    return saga


async def waiting(sagas: Sagas) -> str:
    """A saga that runs, and has landed its seat."""
    saga = await sagas.start("tests.hurried", await hurry(sagas))

    async def landed() -> bool:
        return "seat" in (await sagas.logged(saga, ("seat",))).carried_out

    await until(landed, "the seat to be held", within=WITHIN_S)
    return saga


async def dead(sagas: Sagas) -> str:
    """The same, after somebody terminated its workflow."""
    saga = await waiting(sagas)
    await sagas.handle(saga).terminate("a test")
    return saga


async def held(sagas: Sagas) -> str:
    """The same, left to a person."""
    saga = await dead(sagas)
    assert await sagas.holdfast.ledger.sagas.hold(saga, saga, expected=SagaState.OPEN, reason="nobody knows why")
    return saga


async def facts(sagas: Sagas, saga: str) -> list[tuple[str | None, str, str]]:
    """Author, resolution and reason of what people said of it."""
    entries = await sagas.holdfast.ledger.reader.timeline(saga)
    said = [(entry, entry.body or {}) for entry in entries if entry.kind == "saga_resolved"]
    return [(entry.actor, str(entry.outcome), str(body.get("reason"))) for entry, body in said]


async def test_a_saga_that_commits_ends_with_0_and_one_that_was_undone_with_1(sagas: Sagas, say: Say) -> None:
    lands, fails = sagas.new_id(), sagas.new_id()
    await sagas.breaks(fails, "money", "refuse_402")

    done = await started(sagas, say, lands)
    assert (done.code, done.json["outcome"], done.json["result"]["flight_id"]) == (0, "COMMITTED", CHEAPEST), (
        done.err
    )
    undone = await started(sagas, say, fails)
    assert (undone.code, undone.json["outcome"]) == (1, "ABORTED"), undone.err
    assert undone.json["undone"] == ["hotel move_hotel", "change change_booking", "seat hold_seat"]
    listed = await say("saga", "list", "--state", "aborted", "--json")
    assert fails in {row["id"] for row in listed.json}
    assert lands not in {row["id"] for row in listed.json}
    again = await say("saga", "start", "travel.rebook", "--args", "{}", "--id", lands)
    assert (again.code, "for another start" in again.err) == (2, True), again.err


async def test_past_its_pivot_it_ends_with_6_and_says_what_is_left_and_is_not_aborted(
    sagas: Sagas, say: Say
) -> None:
    saga = sagas.new_id()
    await sagas.breaks(saga, "mail", "refuse_402")
    done = await started(sagas, say, saga)
    assert (done.code, done.json["outcome"]) == (6, "FORWARD_PENDING"), done.err
    assert "`mail` failed" in done.json["reason"]

    shown = await say("saga", "show", saga)
    assert "`mail` failed" in shown.out
    refused = await say("saga", "abort", saga, "--reason", "too late")
    assert refused.code == 2
    assert "past its pivot" in refused.err
    assert f"holdfast saga resolve {saga} --retry" in refused.err
    options = (await say("saga", "show", saga, "--json")).json["next"]
    assert options == [f'holdfast saga resolve {saga} --reason "..." --{what}' for what in ("retry", "keep")]
    retried = await say("saga", "resolve", saga, "--retry", "--reason", "the mail works", "--as", "bo")
    assert retried.code == 0, retried.err
    await until_state(sagas, saga, SagaState.COMMITTED)
    assert await facts(sagas, saga) == [("bo", "retry", "the mail works")]


async def test_a_saga_in_doubt_ends_with_6_and_shows_what_settles_it(sagas: Sagas, say: Say) -> None:
    saga = sagas.new_id()
    await sagas.breaks(saga, "money", "drop_after", times=3)
    done = await started(sagas, say, saga)
    assert (done.code, done.json["outcome"]) == (6, "HELD"), done.err

    shown = (await say("saga", "show", saga, "--json")).json
    assert shown["next"][0].startswith(f"holdfast effect resolve {effect_of(saga, 'money')[:12]}")
    kept = await say("saga", "resolve", saga, "--keep", "--reason", "x")
    assert (kept.code, "nobody knows whether money refund happened" in kept.err) == (2, True), kept.err
    waived = await say("saga", "resolve", saga, "--waive", "money", "--reason", "the bank will tell", "--as", "bo")
    assert waived.code == 0, waived.err
    assert await facts(sagas, saga) == [("bo", "waive", "the bank will tell")]


@pytest.mark.parametrize("what", ["retry", "edit", "mark-done", "waive"])
async def test_what_a_person_says_of_a_stuck_saga_ends_it_and_stands_in_the_ledger(
    sagas: Sagas, say: Say, what: str
) -> None:
    saga = await stuck(sagas, say)
    shown = await say("saga", "show", saga, "--json")
    options = ("--retry", "--edit seat", "--mark-done seat", "--waive seat")
    assert shown.json["next"] == [f'holdfast saga resolve {saga} --reason "..." {option}' for option in options]
    about = [f"--{what}"] if what == "retry" else [f"--{what}", "seat"]
    if what == "edit":
        (booking,) = await sagas.bookings(1)
        other = await sagas.desk.post("/seats/holds", {"flight_id": CHEAPEST, "booking_id": booking}, key=saga)
        about += ["--args", json.dumps({"hold_id": other.json()["hold_id"]})]

    done = await say("saga", "resolve", saga, *about, "--reason", "as agreed", "--as", "bo")

    assert (done.code, "UNWINDING, and goes on by itself" in done.out) == (0, True), done.err
    await until_state(sagas, saga, SagaState.ABORTED)
    assert await facts(sagas, saga) == [("bo", what.replace("-", "_"), "as agreed")]
    undone = (await sagas.logged(saga, ("seat", "change", "hotel"))).undone
    shown = await say("saga", "show", saga)
    if what in ("retry", "edit"):
        assert "What you can do" not in shown.out
    else:
        assert undone == ["hotel", "change"]
        assert {"mark-done": "undone by hand", "waive": "may stand"}[what] in shown.out
    if what == "edit":
        tried = [e for e in (await sagas.desk.get("/_log")).json()["entries"] if e["path"].endswith("/release")]
        assert tried[-1]["path"] == f"/seats/holds/{other.json()['hold_id']}/release"
    assert await sagas.verified(saga)


@pytest.mark.parametrize(("what", "ends"), [("keep", SagaState.COMMITTED), ("unwind", SagaState.ABORTED)])
async def test_what_is_held_is_kept_or_undone_as_a_person_says(
    sagas: Sagas, say: Say, what: str, ends: SagaState
) -> None:
    saga = await held(sagas)
    shown = await say("saga", "show", saga)
    assert all(f"--{option}\n" in f"{shown.out}\n" for option in ("retry", "unwind", "keep")), shown.out

    done = await say("saga", "resolve", saga, f"--{what}", "--reason", "as agreed", "--as", "bo")

    assert done.code == 0, done.err
    await until_state(sagas, saga, ends)
    assert await facts(sagas, saga) == [("bo", what, "as agreed")]
    assert (await sagas.logged(saga, ("seat",))).standing == ({"seat"} if what == "keep" else set())


async def test_an_abort_undoes_a_saga_that_runs_and_one_whose_run_is_dead(sagas: Sagas, say: Say) -> None:
    runs, ended = await waiting(sagas), await dead(sagas)

    for saga in (runs, ended):
        done = await say("saga", "abort", saga, "--reason", "the customer cancelled", "--as", "bo")
        assert (done.code, "what it did is undone" in done.out) == (0, True), done.err

    for saga in (runs, ended):
        await until_state(sagas, saga, SagaState.ABORTED)
        assert (await sagas.logged(saga, ("seat",))).standing == set()
    again = await say("saga", "abort", runs)
    assert (again.code, "is aborted: nothing of it stands" in again.err) == (2, True), again.err


async def test_a_sweep_by_hand_takes_up_what_lost_its_workflow(sagas: Sagas, say: Say) -> None:
    saga = await dead(sagas)

    done = await say("saga", "sweep", "--json")

    assert (done.code, done.json["started"], done.json["alarm"]) == (0, [saga], ""), done.err
    await until_state(sagas, saga, SagaState.ABORTED)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("start", "travel.rebok"), 2, "did you mean `travel.rebook`?"),
        (
            ("start", "travel.rebook", "--version", "7"),
            2,
            "no version 7 of saga `travel.rebook`; known versions: 1",
        ),
        (("start", "travel.rebook", "--args", '{"date": "soon"}'), 2, "`booking_id`: Field required"),
        (("start", "travel.rebook", "--args", "{"), 2, "--args is no JSON"),
        (("start", "travel.rebook", "--args", "[]"), 2, "--args must be a JSON object"),
        (("start", "travel.rebook", "--id", "a/b"), 2, "cannot be"),
        (("show", "nowhere"), 3, "no saga whose id begins with `nowhere`"),
        (("abort", "nowhere"), 3, "no saga whose id begins with `nowhere`"),
        (("resolve", "nowhere", "--retry", "--reason", "x"), 3, "no saga whose id begins with `nowhere`"),
        (("resolve", "nowhere", "--reason", "x"), 2, "Say one of --retry, --unwind, --keep, --edit"),
        (("resolve", "nowhere", "--retry", "--keep", "--reason", "x"), 2, "Say one of"),
        (
            ("resolve", "nowhere", "--edit", "seat", "--reason", "x"),
            2,
            "--edit STEP and --args JSON belong together",
        ),
    ],
)
async def test_what_cannot_be_is_refused_in_words(
    say: Say, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = await say("saga", *arguments)

    assert (done.code, words in done.err) == (code, True), done.err
    assert "Traceback" not in done.err


async def test_a_body_that_changed_under_an_open_version_is_refused_by_name(sagas: Sagas, say: Say) -> None:
    saga = await waiting(sagas)
    args, before = json.dumps(await hurry(sagas)), served()
    serve(Registry((replace(hurried, source="0" * 64),)))
    try:
        refused = await say("saga", "start", "tests.hurried", "--args", args)
    finally:
        serve(before)
    assert refused.code == 2
    assert "the body of saga `tests.hurried`" in refused.err.replace('"', "`")
    assert saga in refused.err
    assert (await say("saga", "abort", saga)).code == 0
    await until_state(sagas, saga, SagaState.ABORTED)


async def test_a_saga_that_waits_for_nobody_is_not_resolved(sagas: Sagas, say: Say) -> None:
    saga = await waiting(sagas)
    for what in (("--retry",), ("--keep",), ("--waive", "seat"), ("--mark-done", "seat")):
        refused = await say("saga", "resolve", saga, *what, "--reason", "x")
        assert (refused.code, "is OPEN: it waits for nobody" in refused.err) == (2, True), refused.err
    assert await facts(sagas, saga) == []
    assert (await say("saga", "abort", saga)).code == 0
    await until_state(sagas, saga, SagaState.ABORTED)


async def test_arguments_that_do_not_fit_the_undo_are_refused_field_by_field(sagas: Sagas, say: Say) -> None:
    saga = await stuck(sagas, say)
    for misfit, words in (
        ('{"hold_id": 7}', "`hold_id`"),
        ("{}", "`hold_id`: Field required"),
        ("[]", "JSON object"),
    ):
        refused = await say("saga", "resolve", saga, "--edit", "seat", "--args", misfit, "--reason", "x")
        assert (refused.code, words in refused.err) == (2, True), refused.err
    lost = await say("saga", "resolve", saga, "--waive", "seats", "--reason", "x")
    assert (lost.code, "no one step `seats`; its steps: " in lost.err) == (3, True), lost.err
    assert await facts(sagas, saga) == []
    assert (await sagas.holdfast.ledger.sagas.row(saga)).state is SagaState.STUCK


async def test_a_build_that_lacks_the_code_of_an_open_saga_is_not_to_be_deployed(
    sagas: Sagas, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga = await waiting(sagas)
    here = await say("worker", "check")
    assert (here.code, "This build has the code of every open saga." in here.err) == (0, True), here.err
    (tmp_path / "holdfast.toml").write_text('sagas = ["travel_desk.sagas:rebook"]\n')
    monkeypatch.setenv("HOLDFAST_CONFIG", str(tmp_path / "holdfast.toml"))

    lacks = await say("worker", "check", "--json")

    assert lacks.code == 1, lacks.err
    assert {row["saga_id"] for row in lacks.json} == {saga}
    assert any("tests.hurried" in row["code"] for row in lacks.json)
    alone = await say("worker", "check", "--waive", saga)
    assert (alone.code, "--waive SAGA and --reason TEXT belong together" in alone.err) == (2, True)
    unknown = await say("worker", "check", "--waive", "nowhere", "--reason", "x")
    assert (unknown.code, "no saga whose id begins with `nowhere`" in unknown.err) == (3, True)
    waived = await say("worker", "check", "--waive", saga, "--reason", "a hot-fix", "--as", "bo")
    assert waived.code == 0, waived.err + waived.out
    told = [e for e in await sagas.holdfast.ledger.reader.timeline(saga) if e.kind == "saga_build_waived"]
    assert [(entry.actor, (entry.body or {}).get("reason")) for entry in told] == [("bo", "a hot-fix")]
    monkeypatch.delenv("HOLDFAST_CONFIG")
    assert (await say("saga", "abort", saga)).code == 0


async def test_a_build_whose_sagas_name_an_undo_that_nobody_declared_is_refused_in_words(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "holdfast.toml").write_text('sagas = ["tests.sagas.bodies:undeclared"]\n')
    monkeypatch.setenv("HOLDFAST_CONFIG", str(tmp_path / "holdfast.toml"))

    done = await say("worker", "check")

    assert (done.code, "saga `tests.undeclared`: there is no tool `give_it_back`" in done.err) == (2, True), (
        done.err
    )


RESERVE_PAY_AND_WAIT = """
name: reserve-pay-wait
description: Reserve, pay, and wait for a person.
example: trip
match: trip
turns:
  - calls: [{tool: reserve, input: {what: seat}}]
  - calls: [{tool: pay, input: {cents: 500}}]
  - calls: [{tool: ask_human, input: {question: Go on?}}]
  - text: done
"""


async def test_a_request_is_aborted_by_its_session_and_held_behind_a_payment_that_is_final(
    open_house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "runs.log"
    monkeypatch.setenv("BENCH_LOG", str(log))
    monkeypatch.setenv("BENCH_GATE", str(tmp_path / "gate"))
    (tmp_path / "bench.py").write_text(TOOLS)
    config = CONFIG + '\n[agents.default.policy]\nallow = ["pay"]\n'
    async with open_house(RESERVE_PAY_AND_WAIT, config=config) as house:
        point_at(house, tmp_path, monkeypatch)
        cli = Cli(house, capsys)
        session = await house.start("trip")
        await house.until(session, "waiting")
        ((saga,),) = await house.rows("SELECT id FROM holdfast.saga")
        refused = await cli("saga", "abort", saga)
        assert (refused.code, f"`holdfast abort {session}`" in refused.err) == (2, True), refused.err

        assert (await cli("abort", session, "--reason", "wrong week")).code == 0
        await in_state(house, "HELD")
        assert log.read_text().split("\n") == ["reserve seat", "pay 500", ""]
        shown = (await cli("saga", "show", saga, "--json")).json
        assert "cannot be undone" in shown["reason"]
        assert shown["next"] == [
            f'holdfast saga resolve {saga} --reason "..." --{what}' for what in ("unwind", "keep")
        ]
        none = await cli("saga", "resolve", saga, "--mark-done", "9.9", "--reason", "x")
        assert (none.code, "no one step `9.9`" in none.err) == (3, True), none.err
        edit = ("--edit", "2.1", "--args", "{}", "--reason", "x")
        undeclared = await cli("saga", "resolve", saga, *edit)
        assert (undeclared.code, "2.1 pay declares no undo" in undeclared.err) == (2, True), undeclared.err

        done = await cli("saga", "resolve", saga, "--unwind", "--reason", "the rest goes", "--as", "bo")

        assert done.code == 0, done.err
        await in_state(house, "ABORTED")
        assert log.read_text().splitlines()[-1] == "release seat"
        assert "may stand" in (await cli("saga", "show", saga)).out


async def in_state(house: House, state: str) -> None:
    wanted = f"SELECT 1 FROM holdfast.saga WHERE state = '{state}'"
    await until(lambda: house.rows(wanted), f"the saga to be {state}", within=WITHIN_S)
