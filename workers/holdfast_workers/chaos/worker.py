"""`python -m holdfast_workers.chaos.worker --health-port N --faults DIR`: a worker with fault points.

It is the production worker in everything else. Besides `holdfast_workers.worker` there are only this composition
root and that of `holdfast_workers.crash_check.attempts`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast_workers.chaos.armed import Armory
from holdfast_workers.settings import Settings
from holdfast_workers.telemetry.logs import LogSettings, configure_logging
from holdfast_workers.worker import WorkerSettings, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="chaos-worker")
    parser.add_argument("--health-port", type=int, required=True)
    parser.add_argument("--faults", type=Path, required=True)
    options = parser.parse_args()
    configure_logging(LogSettings.from_env(os.environ, terminal=False))
    settings = Settings.load(os.environ)
    chosen = WorkerSettings.from_env(os.environ)
    faults = Armory(options.faults).reached
    asyncio.run(run(settings, health_port=options.health_port, worker_settings=chosen, faults=faults))


if __name__ == "__main__":
    try:
        main()
    except HoldfastError as error:
        sys.exit(str(error))
