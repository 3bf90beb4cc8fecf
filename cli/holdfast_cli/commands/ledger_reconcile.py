"""`ledger reconcile`: effects held against Temporal's history, and against the services they reached."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.finding import find_session, note_reading, parse_since, reader_of
from holdfast_cli.output import shortened

if TYPE_CHECKING:
    from holdfast_workers.client import Holdfast
    from holdfast_workers.reconciling import Difference, Reconciled

DIFFERENCE_FIELDS = {
    "session_id": "the session",
    "what": "no_effect, not_settled, other_outcome, no_activity, probe_differs or probe_knows",
    "effect_id": "the effect",
    "kind": "model, call or undo",
    "turn": "its turn",
    "call": "TURN.INDEX",
    "tool": "its tool",
    "said": "what differs, in words",
}


@command(
    "reconcile",
    examples=(
        "holdfast ledger reconcile 0198a7c2",
        "holdfast ledger reconcile --since 1d",
        "holdfast ledger reconcile 0198a7c2 --probe --json",
    ),
    fields={
        "ok": "whether nothing differs",
        "sessions": "sessions looked at",
        "compared": "effects held against Temporal's history",
        "expired": "effects of which Temporal keeps nothing any more; not compared",
        "probed": "calls whose probe was asked; null without --probe",
        "unsure": "of those, the ones whose probe could not tell; null without --probe",
        "differences": f"what differs: {', '.join(DIFFERENCE_FIELDS)}",
    },
)
@click.argument("session", required=False)
@click.option("--since", metavar="WHEN", help="Sessions started since: `2h`, `3d`, or a date.")
@click.option("--probe", is_flag=True, help="Also ask the service of each call whose tool has a probe.")
@pass_app
def reconcile(app: App, session: str | None, since: str | None, probe: bool) -> int:
    """Hold the effects of SESSION, or of all sessions, against Temporal's history. Exit code 1 if one differs.

    Every outcome that Temporal was told must stand in Postgres, and every effect that was attempted must have been
    scheduled. With --probe this machine asks the services, too, with the tools of holdfast.toml; that sends
    nothing, and settles nothing: for that there is `holdfast effect resolve`.
    """
    if session and since:
        raise Failure("Give a session or --since, not both.", Exit.USAGE)
    found = app.run(reconcile_all(app, session, since, probe=probe))
    differences = [each for one in found for each in one.differences]
    compared, expired = sum(one.compared for one in found), sum(one.expired for one in found)
    probed, unsure = sum(one.probed for one in found), sum(one.unsure for one in found)
    fields = {
        "ok": not differences,
        "sessions": len(found),
        "compared": compared,
        "expired": expired,
        "probed": probed if probe else None,
        "unsure": unsure if probe else None,
        "differences": [asdict(each) for each in differences],
    }
    sum_up = f"{len(found)} sessions, {compared} effects compared; expired, not compared: {expired}."
    if probe:
        sum_up += f" Probes asked: {probed}; could not tell: {unsure}."
    verdict = f"{len(differences)} differ." if differences else "Nothing differs."
    text = "\n".join([*map(line_of, differences), f"{sum_up} {verdict}"])
    app.out.one(fields, text, quiet="differs" if differences else "same")
    return Exit.FAILED if differences else Exit.DONE


def line_of(each: Difference) -> str:
    what = f"{each.call} {each.tool}" if each.call else f"turn {each.turn}"
    return f"{each.session_id} {what} ({each.effect_id[:12]}): {each.what}: {shortened(each.said)}"


async def reconcile_all(app: App, session: str | None, since: str | None, *, probe: bool) -> list[Reconciled]:
    async with app.client() as client:
        wanted = [await find_session(client.ledger, session)] if session else await sessions(client, since)
        return await reconcile_each(app, client, wanted, probe=probe)


async def sessions(client: Holdfast, since: str | None) -> list[str]:
    from holdfast_ledger.reading import EVERYTHING

    found = await reader_of(client.ledger).sessions(since=parse_since(since), limit=EVERYTHING)
    return [each.id for each in found]


async def reconcile_each(app: App, client: Holdfast, wanted: list[str], *, probe: bool) -> list[Reconciled]:
    from holdfast_workers.reconciling import prober, reconcile

    reader = reader_of(client.ledger)
    if not probe:
        found = [await reconcile(client.temporal, reader, each) for each in wanted]
    else:
        from holdfast_workers.work import open_work

        async with open_work(app.settings, client.temporal) as work:
            ask = prober(work.calls.surroundings)
            found = [await reconcile(client.temporal, reader, each, ask=ask) for each in wanted]
    told = {each.session_id for one in found for each in one.differences}
    await note_reading(client.ledger, told, "ledger reconcile")
    return found
