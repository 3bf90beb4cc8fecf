"""`python run_companion.py STACK_HOME`: one plain HTTP service and one worker that only waits, beside a stack."""

import asyncio
import sys
from pathlib import Path

from holdfast_workers.stack.companion import Companion, CompanionPlan
from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.plan import Service
from holdfast_workers.stack.processes import ProcessSpec

SERVICE = Service(
    name="beside",
    argv=(sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"),
    preferred_port=8799,
    health_path="/",
)
WORKER = ProcessSpec(name="beside-worker", argv=(sys.executable, "-c", "import time; time.sleep(10_000)"))

if __name__ == "__main__":
    plan = CompanionPlan(
        stack=Path(sys.argv[1]), name="small", services=[SERVICE], workers=lambda addresses: [WORKER]
    )
    try:
        asyncio.run(Companion(plan).run())
    except StackError as error:
        sys.exit(str(error))
