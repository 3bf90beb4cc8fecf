"""`cost`: what it cost, by agent, model, tool, label, day or session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit
from holdfast_cli.finding import parse_since
from holdfast_cli.output import money, share, table

if TYPE_CHECKING:
    from holdfast_ledger.costs import By, Cost, CostReport

BY = ("agent", "model", "tool", "label", "day", "session")
ROW_FIELDS = {
    "key": "the agent, model, tool, NAME=VALUE, day or session; null for what belongs to none",
    "turns": "model turns",
    "calls": "tool calls",
    "input_tokens": "tokens read, cached ones aside",
    "output_tokens": "tokens written",
    "cache_read_tokens": "tokens read from the cache",
    "cache_write_tokens": "tokens written to the cache",
    "cache_hit_rate": "the part of all tokens read that came from the cache; null where none were read",
    "usd": "cost; null where any part of it is unknown",
    "known_usd": "the part that is known",
    "unpriced": "turns and calls whose cost nobody knows",
    "repriced": "turns priced by --reprice",
    "lost_attempts": "model calls whose answers were lost, and were billed perhaps; in none of the sums above",
    "assumed_usd": "what limits count for those, at most; null where a price is unknown",
}
NONE = {
    "model": "(tools)",
    "tool": "(models)",
    "label": "(no label)",
}
"""What a null key is called, by the question."""


@command(
    "cost",
    examples=(
        "holdfast cost --by agent --since 30d",
        "holdfast cost --by day --since 2026-01-01 --until 2026-02-01 --json",
        "holdfast cost --by model --reprice",
    ),
    fields={
        "by": "what the rows are",
        "since": "from when; null for the beginning",
        "until": "to when; null for now",
        "rows": f"the dearest first, days in their order; with -o jsonl alone: {', '.join(ROW_FIELDS)}",
        "total": "the same of everything, counted once",
    },
)
@click.option("--by", type=click.Choice(BY), default="agent", show_default=True, help="What to sum up by.")
@click.option("--since", metavar="WHEN", help="Only recorded since: `2h`, `3d`, or a date.")
@click.option("--until", metavar="WHEN", help="Only recorded before.")
@click.option("--reprice", is_flag=True, help="Price turns of unknown price by today's table, as of their day.")
@pass_app
def cost(app: App, by: str, since: str | None, until: str | None, reprice: bool) -> int:
    """Sum up what was recorded with each model turn and tool call.

    A model that is in no price table has no price, and a sum with it is unknown: what is known of it is shown
    beside. `[prices."MODEL"]` in holdfast.toml sets prices of your own, with the day they begin. A session with two
    labels counts under both. Days are those of UTC.
    """
    begin, end = parse_since(since), parse_since(until)

    async def read() -> CostReport:
        from holdfast_ledger.costs import report
        from holdfast_workers.config_file import load_config

        own = load_config(app.settings.config).price_table if reprice else None
        async with app.ledger() as ledger:
            return await report(ledger.database, cast("By", by), since=begin, until=end, reprice=own)

    found = app.run(read())
    rows = [record(row) for row in found.rows]
    if app.flags.output == "jsonl":
        for row in rows:
            app.out.event(row)
        return Exit.DONE
    fields = {"by": by, "since": begin, "until": end, "rows": rows, "total": record(found.total)}
    app.out.one(fields, text_of(found, by), quiet=str(found.total.usd))
    return Exit.DONE


def record(row: Cost) -> dict[str, Any]:
    tokens = row.tokens
    return {
        "key": row.key,
        "turns": row.turns,
        "calls": row.calls,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_read_tokens": tokens.cache_read,
        "cache_write_tokens": tokens.cache_write,
        "cache_hit_rate": tokens.cache_hit_rate,
        "usd": row.usd,
        "known_usd": row.known_usd,
        "unpriced": row.unpriced,
        "repriced": row.repriced,
        "lost_attempts": row.lost_attempts,
        "assumed_usd": row.assumed_usd,
    }


def text_of(found: CostReport, by: str) -> str:
    named = [(row.key or NONE.get(by, "-"), row) for row in found.rows]
    cells = [cells_of(name, row) for name, row in [*named, ("total", found.total)]]
    return table(cells, [by, "turns", "calls", "tokens in", "cached", "out", "usd"])


def cells_of(name: str, row: Cost) -> list[str]:
    tokens = row.tokens
    hit = share(tokens.cache_hit_rate)
    return [name, str(row.turns), str(row.calls), str(tokens.asked), hit, str(tokens.output), price_of(row)]


def price_of(row: Cost) -> str:
    if row.usd is not None:
        return money(row.usd) + lost_of(row)
    known = f", {money(row.known_usd)} of it known" if row.known_usd else ""
    return f"unknown ({row.unpriced} without a price{known})" + lost_of(row)


def lost_of(row: Cost) -> str:
    """What may have been billed besides."""
    if not row.lost_attempts:
        return ""
    most = "unknown" if row.assumed_usd is None else f"at most {money(row.assumed_usd)}"
    return f", lost answers: {row.lost_attempts}, {most} more"
