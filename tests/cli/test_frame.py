"""What holds for every command: help with an example, documentation, exit codes, and a start that is not felt."""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from holdfast_cli.commanding import Command, Group, LazyGroup
from holdfast_cli.main import run
from holdfast_cli.reference import pages, reference
from holdfast_cli.root import COMMANDS, cli

COMMANDS_BY_PATH = dict(pages(cli, "holdfast"))
DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def holdfast(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The installed command, as a shell runs it."""
    program = Path(sys.executable).with_name("holdfast")
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=environ or None, timeout=30)


def test_the_version_takes_at_most_150_ms_of_processor():
    """Of an idle machine's wall clock that is as much; a busy one's says nothing of the command."""
    holdfast("--version")  # bytecode is written once
    times = []
    for _ in range(5):
        start = spent_by_children()
        assert holdfast("--version").stdout.startswith("holdfast ")
        times.append(spent_by_children() - start)
    assert min(times) < 0.15


def spent_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["session", "--help"], ["run", "--help"], ["nope"]]
)
def test_what_needs_no_server_imports_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from holdfast_cli.main import run\n"
        f"run({arguments!r})\n"
        "heavy = ('pydantic', 'temporalio', 'anthropic', 'asyncpg', 'rich', 'opentelemetry', 'asyncio')\n"
        "print('\\n', [m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].strip()
    assert loaded == ("[]" if "asyncio" not in loaded else "['asyncio']")


@pytest.mark.parametrize("path", COMMANDS_BY_PATH)
def test_every_command_has_help_and_an_example_that_parses(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios").mkdir()  # what the examples name
    (tmp_path / "session.jsonl").touch()
    command = COMMANDS_BY_PATH[path]
    assert isinstance(command, Command)
    assert command.help
    mine = [example for example in command.examples if example_of(example, path) is not None]
    assert mine, f"no example of `{path}`"
    for example in mine:
        words = shlex.split(example_of(example, path) or "", comments=True)
        command.make_context(path, words, resilient_parsing=False)


def example_of(example: str, path: str) -> str | None:
    """The arguments that follow the command in an example; None where the example is of another command."""
    _, found, rest = example.partition(path)
    for end in (" > ", " | ", ")"):
        rest = rest.partition(end)[0]
    return rest if found else None


def test_the_table_of_commands_says_what_the_commands_say():
    context = click.Context(cli)
    for name, entry in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        if isinstance(command, Group):
            assert command.help == entry.help


def test_the_documentation_is_what_the_commands_say():
    assert DOCUMENT.read_text() == reference(), "python -m holdfast_cli.reference > docs/cli.md"


def test_documented_fields_are_unique_and_described():
    for path, command in COMMANDS_BY_PATH.items():
        assert all(command.fields.values()), path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        ([], 2),
        (["nope"], 2),
        (["session"], 2),
        (["show"], 2),
        (["show", "--nope"], 2),
        (["up", "--port", "none"], 2),
        (["agent", "show", "nobody"], 3),
        (["tool", "show", "nothing"], 3),
    ],
)
def test_exit_codes(arguments, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOLDFAST_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    capsys.readouterr()


def test_a_misspelt_command_is_guessed(capsys):
    assert run(["aprove"]) == 2
    assert "approve" in capsys.readouterr().err


def test_an_error_nobody_foresaw_is_one_line_and_a_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOLDFAST_HOME", str(tmp_path))

    @click.command("burst")
    def burst() -> None:
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr(LazyGroup, "get_command", lambda self, context, name: burst)
    assert run(["burst"]) == 1
    said = capsys.readouterr().err
    assert "no such luck" in said
    assert "Traceback" not in said
    log = tmp_path / "logs" / "cli.log"
    assert str(log) in said
    assert "ZeroDivisionError" in log.read_text()


def test_shared_options_are_taken_before_and_after_the_command(tmp_path, capsys):
    (tmp_path / "holdfast.toml").write_text('[agents.clerk]\nmodel = "claude-sonnet-5"\n')
    config = str(tmp_path / "holdfast.toml")
    for words in (["--config", config, "agent", "list"], ["agent", "list", "--config", config]):
        assert run([*words, "-q"]) == 0
        assert capsys.readouterr().out == "clerk\n"


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    program = Path(sys.executable).with_name("holdfast")
    command = f"{shlex.quote(str(program))} tool list | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith("NAME")
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code_is_printed(shell, capsys):
    assert run(["completion", shell]) == 0
    assert "_HOLDFAST_COMPLETE" in capsys.readouterr().out


def test_completion_finds_commands():
    program = Path(sys.executable).with_name("holdfast")
    environ = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": "holdfast app", "COMP_CWORD": "1"}
    done = subprocess.run([program], capture_output=True, text=True, env=environ)
    assert done.stdout.split() == ["plain,approve", "plain,approval"]
