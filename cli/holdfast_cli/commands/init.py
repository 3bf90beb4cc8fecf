"""`init`: the three files a project starts with."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure

WRITTEN = ("holdfast.toml", "holdfast_tools.py", "test_holdfast_tools.py")


@command(
    "init",
    examples=("holdfast init", "holdfast init ./my-agents"),
    fields={"directory": "where the files are", "written": "their names"},
)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@pass_app
def init(app: App, directory: Path) -> int:
    """Write holdfast.toml, a module with one tool, and a test of it into DIRECTORY. Nothing is overwritten."""
    there = [name for name in WRITTEN if (directory / name).exists()]
    if there:
        raise Failure(
            f"{', '.join(f'`{directory / name}`' for name in there)} exists already; nothing was written.",
            Exit.USAGE,
        )
    directory.mkdir(parents=True, exist_ok=True)
    templates = files("holdfast_cli").joinpath("templates")
    for name in WRITTEN:
        (directory / name).write_text(
            templates.joinpath(f"{name}.txt").read_text(encoding="utf-8"), encoding="utf-8"
        )
    here = "" if directory == Path() else f"cd {directory} && "
    text = "\n".join(
        [
            f"Wrote {', '.join(WRITTEN)}.",
            f"Check the tools:  {here}holdfast tool check",
            f"Start the stack:  {here}holdfast up",
            '  and then:       holdfast run "Which words does this repeat: the cat saw the dog?"',
        ]
    )
    app.out.one({"directory": str(directory.resolve()), "written": list(WRITTEN)}, text)
    return Exit.DONE
