"""`completion`: the shell code that completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from holdfast_cli.commanding import command


@command(
    "completion",
    examples=(
        'eval "$(holdfast completion bash)"',
        'eval "$(holdfast completion zsh)"',
        "holdfast completion fish > ~/.config/fish/completions/holdfast.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion code of SHELL; put its evaluation into the shell's start-up file."""
    completer = get_completion_class(shell)
    assert completer is not None  # click ships all three
    click.echo(completer(context.find_root().command, {}, "holdfast", "_HOLDFAST_COMPLETE").source())
