"""What `holdfast init` writes works as it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from holdfast_cli.main import run


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOLDFAST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run(["init", "here"]) == 0
    monkeypatch.chdir(tmp_path / "here")
    capsys.readouterr()
    return tmp_path / "here"


def in_project(project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python there, in a process of its own: the tool's module must be found by itself."""
    return subprocess.run([sys.executable, *arguments], cwd=project, capture_output=True, text=True, timeout=50)


def test_the_tool_it_writes_can_be_loaded(project):
    done = in_project(project, "-m", "holdfast_cli", "tool", "check", "--json")
    said = json.loads(done.stdout)
    assert (said["ok"], said["problems"], said["warnings"]) == (True, [], []), done.stderr
    assert "word_counts" in said["checked"]


def test_check_tells_refusals_and_warnings_apart(project):
    (project / "more.py").write_text("def vague(a: int) -> int:\n    'Do.'\n")
    with (project / "holdfast.toml").open("a") as config:
        config.write('[tools.vague]\nrun = "more:vague"\n[tools.gone]\nrun = "more:gone"\n')
    one = in_project(project, "-m", "holdfast_cli", "tool", "check", "vague")
    every = in_project(project, "-m", "holdfast_cli", "tool", "check", "--json")
    assert one.returncode == 0
    assert "warning  vague: its description is short" in one.stdout
    assert every.returncode == 1
    assert [line.partition(":")[0] for line in json.loads(every.stdout)["problems"]] == ["gone"]


def test_the_test_it_writes_passes(project):
    (project / "pytest.ini").write_text("[pytest]\n")  # not this repository's configuration
    done = in_project(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio")
    assert "2 passed" in done.stdout, done.stdout


def test_its_agent_uses_the_tool(project, capsys):
    assert run(["agent", "list", "--json"]) == 0
    [agent] = json.loads(capsys.readouterr().out)
    assert "word_counts" in agent["tools"]


def test_nothing_is_overwritten(project, capsys):
    (project / "holdfast.toml").write_text("# mine\n")
    assert run(["init"]) == 2
    assert "holdfast.toml" in capsys.readouterr().err
    assert (project / "holdfast.toml").read_text() == "# mine\n"


def test_a_mistake_in_the_file_is_told_with_its_line(project, capsys):
    (project / "holdfast.toml").write_text('[agents.default]\nmodle = "claude-sonnet-5"\n')
    assert run(["agent", "list"]) == 2
    said = capsys.readouterr().err
    assert "holdfast.toml:2" in said
    assert "did you mean `model`" in said


def test_a_broken_tool_module_is_told_with_its_line(project):
    (project / "holdfast_tools.py").write_text("import nothing_of_that_name\n")
    done = in_project(project, "-m", "holdfast_cli", "tool", "check")
    assert done.returncode == 1
    assert "nothing_of_that_name" in done.stdout
    assert "holdfast_tools.py:1" in done.stdout
    assert "Traceback" not in done.stderr
