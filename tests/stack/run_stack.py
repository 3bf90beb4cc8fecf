"""`python run_stack.py HOME [--port N] [--failing-worker]`: a supervisor as small as one can be."""

import argparse
import asyncio
import sys
from pathlib import Path

import asyncpg

from holdfast_workers.stack.errors import AlreadyRunning, StackError
from holdfast_workers.stack.plan import Service, StackPlan
from holdfast_workers.stack.processes import ProcessSpec
from holdfast_workers.stack.runtime import Addresses
from holdfast_workers.stack.supervisor import Supervisor

GROUP = "DO $$ BEGIN CREATE ROLE {} NOLOGIN; EXCEPTION WHEN duplicate_object THEN END $$"


async def migrate(addresses: Addresses) -> None:
    """What the stack expects of the real migrations: the group roles."""
    connection = await asyncpg.connect(addresses.migrate_dsn)
    for group in ("holdfast_app", "holdfast_auditor"):
        await connection.execute(GROUP.format(group))
    await connection.close()


async def main() -> None:
    """Run the stack until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--failing-worker", action="store_true")
    options = parser.parse_args()

    body = "raise SystemExit('no such module')" if options.failing_worker else "time.sleep(10_000)"
    worker = ProcessSpec(
        name="worker-1",
        argv=(sys.executable, "-c", f"import time; {body}"),
        ready=never if options.failing_worker else None,
    )
    plan = StackPlan(
        home=options.home,
        migrate=migrate,
        workers=lambda addresses: [worker],
        services=[
            Service(
                name="model",
                argv=(sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"),
                preferred_port=8787,
                health_path="/",
            )
        ],
        temporal_port=options.port,
    )
    await Supervisor(plan).run(lambda runtime: print("ready", flush=True))


async def never() -> bool:
    """Ready only in the sense of not being so."""
    return False


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except AlreadyRunning as error:
        print(error)
    except StackError as error:
        sys.exit(str(error))
