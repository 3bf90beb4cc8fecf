"""`effect resolve`: a person says what happened to effects in doubt, one or hundreds."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.delivery import ALSO, DELIVERED_FIELDS
from holdfast_cli.exits import Exit, Failure, exit_for
from holdfast_cli.finding import note_reading, parse_since, reader_of
from holdfast_cli.output import shortened

if TYPE_CHECKING:
    from holdfast.messages import ResolveOutcome
    from holdfast_activities.calls.found import Found
    from holdfast_ledger.store import Ledger
    from holdfast_ledger.views import Effect
    from holdfast_workers.client import Delivered, Holdfast

STATES = {"happened": "DONE", "did_not_happen": "FAILED", "retry": "OPEN", "probe": "UNKNOWN"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person says, of all effects alike."""

    outcome: ResolveOutcome
    by: str
    reason: str
    result: str | None


@command(
    "resolve",
    examples=(
        'holdfast effect resolve 5f3a9c01 --happened --reason "the bank shows the transfer"',
        'holdfast effect resolve 5f3a9c01 --happened --result \'{"id": "RF-7"}\' --reason "seen at the bank"',
        'holdfast effect resolve --tool send_mail --since 2h --did-not-happen --reason "the relay was down" --yes',
    ),
    fields={
        "effect_id": "the effect",
        "state": "DONE, FAILED, OPEN (to be run again), or UNKNOWN while its service is asked",
        **DELIVERED_FIELDS,
        "error": "why it was not resolved; null where it was",
    },
)
@click.argument("effects", metavar="[EFFECT]...", nargs=-1)
@click.option("--happened", "outcome", flag_value="happened", help="It did. With --result, what it gave.")
@click.option("--did-not-happen", "outcome", flag_value="did_not_happen", help="It did not, and will not.")
@click.option("--retry", "outcome", flag_value="retry", help="Run it again under the same key: that is safe.")
@click.option("--probe", "outcome", flag_value="probe", help="Ask its service now.")
@click.option("--result", metavar="JSON", help="What the tool would have returned; it must fit the tool's type.")
@click.option("--tool", metavar="NAME", help="All in doubt of this tool, instead of EFFECT.")
@click.option("--since", metavar="WHEN", help="All in doubt planned since: `2h`, `3d`, or a date.")
@click.option("--reason", required=True, help="How you know; recorded, and told to the model.")
@click.option("--yes", is_flag=True, help="Do not ask before resolving many.")
@as_option
@pass_app
def resolve(
    app: App,
    effects: tuple[str, ...],
    outcome: ResolveOutcome | None,
    result: str | None,
    tool: str | None,
    since: str | None,
    reason: str,
    yes: bool,
    as_user: str | None,
) -> int:
    """Say what happened to effects whose outcome is unknown, so that their held sessions go on.

    Look at the service first: `holdfast effect show` gives the key it saw. Your answer is recorded in the ledger
    with your name, and cannot be taken back. After an outage, name all in doubt by --tool and --since.
    """
    if outcome is None:
        raise Failure("Say what you found: --happened, --did-not-happen, --retry or --probe.", Exit.USAGE)
    if bool(effects) == bool(tool or since):
        raise Failure("Name effects, or all in doubt by --tool and --since.", Exit.USAGE)
    if result is not None and (outcome != "happened" or len(effects) != 1):
        raise Failure("--result goes with --happened and one effect.", Exit.USAGE)
    answer = Answer(outcome=outcome, by=as_user or user(), reason=reason, result=result)
    chosen = app.run(choose(app, effects, tool, since))
    if not chosen:
        raise Failure("No effect is in doubt there; nothing changed.", Exit.MISSING)
    if not effects and not yes:
        confirm(chosen, outcome)
    rows = app.run(resolve_all(app, chosen, answer))
    return report(app, rows, outcome)


async def choose(app: App, prefixes: tuple[str, ...], tool: str | None, since: str | None) -> list[Effect]:
    from holdfast.states import EffectState

    async with app.ledger() as ledger:
        reader = reader_of(ledger)
        if prefixes:
            ids = [await reader.effect_id(prefix) for prefix in prefixes]
            return [await reader.effect(each) for each in dict.fromkeys(ids)]
        found = await reader.effects(states=[EffectState.UNKNOWN], tool=tool, since=parse_since(since), kind="call")
        await note_reading(ledger, (each.session_id for each in found), "effect resolve")
        return found


def confirm(chosen: list[Effect], outcome: str) -> None:
    """Show what would be resolved, and ask. Raises `Failure` where nobody can answer, or says no."""
    for each in chosen[:10]:
        click.echo(f"{each.effect_id[:12]}  {each.call} {each.tool}  {shortened(each.preview or '', 80)}", err=True)
    if len(chosen) > 10:
        click.echo(f"... and {len(chosen) - 10} more", err=True)
    sessions = len({each.session_id for each in chosen})
    many = f"{len(chosen)} effect{'s' * (len(chosen) != 1)} of {sessions} session{'s' * (sessions != 1)}"
    question = f"Resolve {many} as {outcome.replace('_', ' ')}?"
    if not sys.stdin.isatty():
        raise Failure(f"{question} Add --yes.", Exit.USAGE)
    if not click.confirm(question, err=True):
        raise Failure("Nothing changed.", Exit.USAGE)


async def resolve_all(app: App, chosen: list[Effect], answer: Answer) -> list[dict[str, Any]]:
    from holdfast.errors import HoldfastError

    rows: list[dict[str, Any]] = []
    async with app.client() as client:
        for each in chosen:
            row: dict[str, Any] = {"effect_id": each.effect_id, "session_id": each.session_id}
            try:
                delivered = await resolve_one(app, client, each, answer)
            except HoldfastError as error:
                rows.append({**row, "state": str(each.state), "error": str(error), "exit": exit_for(error.code)})
            else:
                rows.append({**row, **said(delivered), "state": STATES[answer.outcome], "error": None})
    return rows


def said(delivered: Delivered) -> dict[str, str]:
    return {"id": delivered.id, "how": delivered.how, "detail": delivered.detail}


async def resolve_one(app: App, client: Holdfast, effect: Effect, answer: Answer) -> Delivered:
    found = await found_of(app, client.ledger, effect, answer.result) if answer.result is not None else None
    return await client.resolve(
        effect.effect_id, outcome=answer.outcome, by=answer.by, reason=answer.reason, result=found
    )


async def found_of(app: App, ledger: Ledger, effect: Effect, given: str) -> Found:
    """The given result as the tool would have returned it.

    Raises `Failure` where the tool's code is not here, `ResultMisfit` where the result does not fit its type.
    """
    from holdfast.errors import DeclarationError
    from holdfast_activities.calls import found
    from holdfast_cli.commands.tool import book_of
    from holdfast_workers.config_file import load_config
    from holdfast_workers.known_secrets import redactor_of

    session = await reader_of(ledger).session(effect.session_id)
    catalogue = await ledger.catalogue(session.catalogue_digest or "")
    card = catalogue.card(effect.tool or "")
    doubt = await ledger.doubt(effect.effect_id)
    if card is None or doubt is None:
        raise Failure(f"The session's catalogue has no tool `{effect.tool}`.", Exit.MISSING)
    try:
        declared = book_of(app).tool(card)
    except DeclarationError as error:
        raise Failure(
            f"The result cannot be checked, since the tool's code is not here ({error}). Run this beside "
            "the workers' holdfast.toml, or leave --result out.",
            Exit.USAGE,
        ) from error
    value = found.checked(declared, given)
    args = json.loads(doubt.args or b"{}")
    redactor = redactor_of(load_config(app.settings.config), app.settings, os.environ)
    return found.landed(
        declared, catalogue, card, call=effect.call or "", args=args, value=value, redactor=redactor
    )


def report(app: App, rows: list[dict[str, Any]], outcome: str) -> int:
    failed = [row for row in rows if row["error"]]
    code = int(failed[0].pop("exit")) if failed else Exit.DONE
    for row in failed:
        row.pop("exit", None)
    if len(rows) == 1 and failed:
        raise Failure(str(failed[0]["error"]), Exit(code))
    if len(rows) == 1:
        what = "Its service is asked now" if outcome == "probe" else f"Recorded as {rows[0]['state']}"
        app.out.one(rows[0], what + ALSO[rows[0]["how"]], quiet=rows[0]["id"])
        return Exit.DONE
    for row in failed:
        click.echo(f"{row['effect_id'][:12]}: {row['error']}", err=True)
    columns = {"effect_id": "effect", "state": "state", "session_id": "session"}
    app.out.rows(
        [row for row in rows if app.out.machine or not row["error"]], columns, empty="Nothing was resolved."
    )
    return code
