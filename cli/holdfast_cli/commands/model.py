"""`model serve`: the scripted model, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast_cli.commanding import Group, command
from holdfast_cli.exits import Exit, Failure


@click.group("model", cls=Group)
def model() -> None:
    """Serve the scripted model."""


@command(
    "serve",
    traced=False,
    examples=(
        "holdfast model serve",
        "holdfast model serve --port 9000 --scenarios ./scenarios",
        "holdfast model serve --pace 0",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8787, show_default=True)
@click.option(
    "--scenarios",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="A YAML file of scenarios, or a directory of them; the shipped ones are played too.",
)
@click.option("--pace", type=click.FloatRange(0), default=1.0, show_default=True, help="Factor on every delay.")
def serve(host: str, port: int, scenarios: tuple[Path, ...], pace: float) -> None:
    """Play scenarios over HTTP in the format of Claude's Messages API, until Ctrl-C.

    Anything that speaks to Claude can speak to it: point ANTHROPIC_BASE_URL at it, or HOLDFAST_SCRIPTED_MODEL so
    that Holdfast also says that it is scripted. Asked something outside its scenarios, it says what it can play.
    """
    from holdfast_workers.scripted_model import ScenarioError
    from holdfast_workers.scripted_model import serve as serve_scenarios

    click.echo(f"The scripted model listens on http://{host}:{port}; Ctrl-C stops it.", err=True)
    try:
        serve_scenarios(host, port, scenarios, pace=pace)
    except ScenarioError as error:
        raise Failure(str(error), Exit.USAGE) from error
    except OSError as error:
        raise Failure(f"Cannot listen on {host}:{port}: {error.strerror or error}.", Exit.USAGE) from error


model.add_command(serve)
