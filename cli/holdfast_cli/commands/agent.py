"""`agent list | show`: the agents of holdfast.toml. No server is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.output import cell

if TYPE_CHECKING:
    from holdfast.catalogue import AgentSpec

FIELDS = {
    "name": "as `--agent` takes it",
    "model": "the model asked for",
    "system": "its instructions",
    "tools": "names of its tools",
    "server_tools": "the API's own tools, as configured",
    "limits": "where a session of it stops by itself; durations in seconds",
    "policy": "what is allowed, denied, or asked of a person; durations in seconds",
}


@click.group("agent", cls=Group)
def agent() -> None:
    """List and show agents."""


def agents_of(app: App) -> dict[str, AgentSpec]:
    from holdfast_workers.config_file import load_config

    return dict(load_config(app.settings.config).agents)


def record(spec: AgentSpec) -> dict[str, Any]:
    return {
        **{name: getattr(spec, name) for name in FIELDS},
        "limits": spec.limits.model_dump(),  # in Python's own types: durations become seconds when printed
        "policy": spec.policy.model_dump(),
    }


@command("list", examples=("holdfast agent list", "holdfast agent list --json"), fields=FIELDS)
@pass_app
def list_agents(app: App) -> int:
    """List the agents of holdfast.toml; without that file there is one, `default`."""
    rows = [record(spec) for spec in agents_of(app).values()]
    app.out.rows(rows, {"name": "name", "model": "model", "tools": "tools"}, empty="No agents.", key="name")
    return Exit.DONE


@command("show", examples=("holdfast agent show default",), fields=FIELDS)
@click.argument("name")
@pass_app
def show(app: App, name: str) -> int:
    """Show one agent: its model, instructions, tools, limits and policy."""
    agents = agents_of(app)
    spec = agents.get(name)
    if spec is None:
        raise Failure(f"There is no agent `{name}`; known agents: {', '.join(agents)}.", Exit.MISSING)
    limits = {key: value for key, value in spec.limits.model_dump().items() if value is not None}
    policy = {key: value for key, value in spec.policy.model_dump().items() if value}
    lines = [
        name,
        f"  model   {spec.model}",
        f"  tools   {cell(spec.tools)}",
        f"  limits  {cell(limits)}",
        f"  policy  {cell(policy)}",
        "",
        spec.system.strip(),
    ]
    app.out.one(record(spec), "\n".join(lines), quiet=name)
    return Exit.DONE


for each in (list_agents, show):
    agent.add_command(each)
