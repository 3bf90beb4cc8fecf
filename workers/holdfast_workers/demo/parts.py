"""What the demo runs beside the stack: the travel desk's services, and a worker of its own to be killed.

A queue of its own keeps the demo's session away from the stack's workers, which know neither its tools nor the
desk, and keeps everybody else's sessions away from a worker that dies.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import psutil

from holdfast_workers.embedded import Embedded
from holdfast_workers.settings import ModelSettings, Settings, TemporalSettings
from holdfast_workers.stack.companion import CompanionPlan
from holdfast_workers.stack.detached import start_detached
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.leftovers import stop_running
from holdfast_workers.stack.plan import Service
from holdfast_workers.stack.processes import ProcessIdentity, ProcessSpec
from holdfast_workers.stack.runtime import Addresses, Runtime, last_record

AGENT = "travel"
TASK_QUEUE = "holdfast-demo"
NAME = "demo"
DESK = "travel-desk"
WORKER = "demo-worker"
DESK_PORT = 8085


class Parts:
    """The demo's processes beside the stack of one home, as they run now."""

    def __init__(self, stack: Path) -> None:
        self.home = Home(stack.resolve()).companion(NAME)

    def start(self) -> Runtime:
        """Start them anew, so that they are of this version and ask the model of this environment.

        Raises `StackError`.
        """
        stop_running(self.home.path)
        stack = self.home.path.parent.parent
        argv = [sys.executable, "-m", "holdfast_workers.demo", str(stack)]
        return start_detached(self.home.path, argv, name="what the demo runs beside the stack").runtime

    def worker(self) -> ProcessIdentity | None:
        """The worker that lives now; None between two lives."""
        record = last_record(self.home)
        found = next((one for one in record.processes if one.name == WORKER), None) if record else None
        return found if found and found.process() else None

    def kill_worker(self) -> ProcessIdentity | None:
        """SIGKILL to the worker: nothing of it may say goodbye. Returns who died; None if none lived."""
        found = self.worker()
        process = found.process() if found else None
        if process is None:
            return None
        try:
            process.kill()
        except psutil.NoSuchProcess:
            return None
        return found


def plan(stack: Path, model: ModelSettings, environ: Mapping[str, str], addresses: Addresses) -> CompanionPlan:
    """What to keep beside the stack at `addresses`."""
    home = Home(stack).companion(NAME)
    embedded = Embedded(home=stack, config=agents_file(), task_queue=TASK_QUEUE, model=model)

    def workers(beside: Addresses) -> Sequence[ProcessSpec]:
        spec = embedded.worker_spec(1, beside, environ)
        scripted = (beside.model or "") if embedded.scripted else ""
        env = {**spec.env, "TRAVEL_DESK_URL": beside.services[DESK], "HOLDFAST_SCRIPTED_MODEL": scripted}
        return [replace(spec, name=WORKER, env=env, cwd=home.path)]

    desk = Service(
        name=DESK,
        argv=(
            *(sys.executable, "-m", "travel_desk.services", "--port", "{port}"),
            *("--data", str(home.path / "travel-desk")),
        ),
        preferred_port=DESK_PORT,
    )
    # A stack that was started with a key has no scripted model of its own.
    own_model = (embedded.model_service(),) if embedded.scripted and addresses.model is None else ()
    return CompanionPlan(stack=stack, name=NAME, services=(desk, *own_model), workers=workers)


def agents_file() -> Path:
    """The travel desk's `holdfast.toml`."""
    return Path(str(files("travel_desk") / "holdfast.toml"))


def client_settings(settings: Settings, parts: Runtime) -> Settings:
    """Settings that lead to the demo's stack and queue, whatever else the environment names."""
    its = parts.addresses
    return settings.model_copy(
        update={
            "config": agents_file(),
            "dsn": its.app_dsn,
            "task_queue": TASK_QUEUE,
            "temporal": TemporalSettings(address=its.temporal, namespace=its.namespace, embedded=True),
            "ui_url": its.ui,
        }
    )
