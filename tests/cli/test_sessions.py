"""Sessions from the command line: started, followed, decided, stopped, read."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holdfast_cli.following.events import EVENTS
from holdfast_cli.reference import pages
from holdfast_cli.root import cli as root
from holdfast_workers.stack.temporal_server import packaged_binary

COMMANDS = dict(pages(root, "holdfast"))
NOWHERE = "127.0.0.1:1"


async def test_run_prints_the_answer_on_stdout_and_nothing_else(cli):
    done = await cli("run", "hello")
    assert done.code == 0
    assert done.out.startswith("Hello! I am the scripted model")
    assert len(done.out.splitlines()) == 1
    assert "completed: 1 turn" in done.err


async def test_run_as_json_lines_tells_everything_with_documented_fields(cli):
    done = await cli("run", "List the files in the workspace.", "-o", "jsonl")
    assert done.code == 0
    names = [line["event"] for line in done.lines]
    assert names[:2] == ["session", "message"]
    assert names[-1] == "end"
    for line in done.lines:
        assert set(line) == {"event", "session_id", *EVENTS[line["event"]]}, line
    assert next(line["text"] for line in done.lines if line["event"] == "turn") == "I will look."
    assert [line["state"] for line in done.lines if line["event"] == "call"] == ["running", "done"]


async def test_start_prints_the_id_and_the_same_start_again_is_the_same_session(cli):
    first = await cli("start", "hello", "--id", "said-twice", "-q")
    again = await cli("start", "hello", "--id", "said-twice", "--json")
    assert first.out == "said-twice\n"
    assert again.code == 0
    assert again.json["session_id"] == "said-twice"
    assert again.json["fresh"] is False
    assert "exists already" in again.err


async def test_an_id_used_for_another_start_is_refused(cli):
    await cli("start", "hello", "--id", "taken")
    other = await cli("start", "goodbye", "--id", "taken")
    assert other.code == 2
    assert "taken" in other.err


async def test_a_message_comes_from_a_file(cli, tmp_path):
    (tmp_path / "question.txt").write_text("hello")
    done = await cli("run", "@question.txt", "-q")
    assert done.out.startswith("Hello!")


async def test_a_message_comes_from_standard_input(cli):
    command = f"echo hello | {shlex.quote(sys.executable)} -m holdfast_cli run - -q"
    shell = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    out, _ = await shell.communicate()
    assert out.startswith(b"Hello!")


@pytest.mark.parametrize(
    ("message", "says"),
    [("@nowhere.txt", "nowhere.txt"), ("@binary", "UTF-8"), ("@huge.txt", "at most 4 MB"), ("", "empty")],
)
async def test_what_is_no_message_is_refused_and_starts_nothing(cli, tmp_path, message, says):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge.txt").write_text("x" * 5 * 2**20)
    done = await cli("start", message)
    assert done.code == 2
    assert says in done.err
    assert (await cli("session", "list", "--json")).json == []


async def test_an_unknown_agent_ends_the_session_and_names_the_known_ones(cli):
    done = await cli("run", "hello", "--agent", "nobody")
    assert done.code == 1
    assert "no agent `nobody`" in done.err
    assert "default" in done.err


async def test_whom_a_session_acts_for_is_kept(cli):
    who = ("--as", "ann", "--on-behalf-of", "acme", "--tenant", "t1", "--role", "clerk", "--label", "case=4711")
    session_id = (await cli("start", "hello", *who, "-q")).out.strip()
    await cli.house.until(session_id, "idle")
    [found] = (await cli("session", "list", "--label", "case=4711", "--tenant", "t1", "--json")).json
    assert (found["requested_by"], found["on_behalf_of"], found["roles"]) == ("ann", "acme", ["clerk"])
    assert (await cli("session", "list", "--label", "case=1", "--json")).json == []


async def test_a_limit_of_one_turn_is_kept(cli):
    done = await cli("run", "List the files in the workspace.", "--max-calls", "0", "-o", "jsonl")
    assert [line["state"] for line in done.lines if line["event"] == "call"] == ["denied"]


async def test_run_until_waiting_ends_with_5_and_says_how_to_approve(cli):
    done = await cli("run", "Write file notes.txt saying Buy milk", "--until", "waiting")
    assert done.code == 5
    assert done.out == ""
    assert "holdfast approve" in done.err


async def test_the_signal_line_that_is_printed_releases_the_call(cli):
    session_id = await cli.waiting_session()
    [asked] = (await cli("approval", "list", "--json")).json
    path = f"{packaged_binary().parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": os.environ["HOME"], "TEMPORAL_ADDRESS": os.environ["TEMPORAL_ADDRESS"]}
    shell = await asyncio.create_subprocess_shell(asked["signal"], env=environ)
    assert await shell.wait() == 0
    await cli.house.until(session_id, "idle")
    [effect] = (await cli("effect", "list", "--session", session_id, "--kind", "call", "--json")).json
    assert effect["state"] == "DONE"
    [decided] = (await cli("approval", "list", "--all", "--json")).json
    assert decided["authenticated"] is False


async def test_the_command_line_that_is_printed_approves_the_call(cli, tmp_path):
    session_id = await cli.waiting_session()
    [asked] = (await cli("approval", "list", "--json")).json
    done = await cli(*asked["approve"].split()[1:], "--as", "ann")
    assert done.code == 0
    await cli.house.until(session_id, "idle")
    assert (tmp_path / "notes.txt").read_text() == "Buy milk"
    [decided] = (await cli("approval", "list", "--all", "--json")).json
    assert (decided["decided_by"], decided["state"]) == ("ann", "consumed")


async def test_approve_needs_no_call_where_only_one_waits(cli):
    session_id = await cli.waiting_session()
    done = await cli("approve", session_id, "--json")
    assert (done.code, done.json["call"], done.json["how"]) == (0, "1.1", "now")


async def test_a_denial_tells_the_model_why_and_nothing_is_written(cli, tmp_path):
    session_id = await cli.waiting_session()
    assert (await cli("deny", session_id, "--reason", "too fattening")).code == 0
    await cli.house.until(session_id, "idle")
    shown = await cli("show", session_id)
    assert "too fattening" in shown.out
    assert "I did not write notes.txt" in shown.out
    assert not (tmp_path / "notes.txt").exists()


async def test_decisions_about_nothing_are_refused_and_change_nothing(cli):
    session_id = await cli.waiting_session()
    wrong_arguments = await cli("approve", session_id, "1.1", "--digest", "abc")
    assert wrong_arguments.code == 2
    assert "other arguments" in wrong_arguments.err
    assert (await cli("approve", session_id, "9.9")).code == 3
    assert (await cli("approval", "list", "--json")).json[0]["state"] == "pending"
    assert (await cli("approve", session_id)).code == 0
    await cli.house.until(session_id, "idle")
    twice = await cli("approve", session_id, "1.1")
    assert twice.code == 3
    assert "already" in twice.err


async def test_a_question_is_answered_by_sending(cli):
    waiting = await cli("run", "ask me something", "--until", "waiting", "-o", "jsonl")
    assert waiting.code == 5
    session_id = waiting.lines[-1]["session_id"]
    [asked] = [line for line in waiting.lines if line["event"] == "question"]
    assert "What would you like" in asked["preview"]
    await cli("send", session_id, "Bertha")
    followed = await cli("attach", session_id)
    assert followed.code == 0


async def test_send_and_follow_waits_for_the_answer_to_this_message(cli):
    session_id = (await cli("start", "hello", "-q")).out.strip()
    await cli.house.until(session_id, "idle")
    done = await cli("send", session_id, "List the files in the workspace.", "--follow")
    assert done.code == 0
    assert "holdfast.toml" in done.out
    assert "Hello!" not in done.out


async def test_ctrl_c_detaches_and_the_session_goes_on(cli):
    session_id = await cli.waiting_session()
    async with cli.process("attach", session_id) as watcher:
        while b"waits for a person" not in await asyncio.wait_for(watcher.stderr.readline(), 10):
            pass
        watcher.send_signal(signal.SIGINT)
        _, err = await watcher.communicate()
    assert watcher.returncode == 130
    assert f"holdfast attach {session_id}".encode() in err
    assert (await cli("session", "show", session_id, "-q")).out == "waiting\n"


async def test_a_watcher_sees_what_happens_while_it_watches_and_writes_no_history(cli):
    session_id = await cli.waiting_session()
    before = await cli.house.events_when_it_waits(session_id)
    async with cli.process("attach", session_id, "--until", "idle", "-o", "jsonl") as watcher:
        lines = [json.loads(await asyncio.wait_for(watcher.stdout.readline(), 10))]
        while lines[-1]["event"] != "approval":
            lines.append(json.loads(await asyncio.wait_for(watcher.stdout.readline(), 10)))
        assert len(await cli.house.history(session_id)) == before
        await cli("approve", session_id)
        rest, _ = await asyncio.wait_for(watcher.communicate(), 10)
    lines += [json.loads(line) for line in rest.splitlines()]
    assert watcher.returncode == 0
    assert [line["outcome"] for line in lines if line["event"] == "decision"] == ["approved"]
    assert lines[-1]["answer"].startswith("notes.txt is written")


@pytest.mark.parametrize(("verb", "ends"), [("interrupt", "idle"), ("abort", "idle"), ("close", "completed")])
async def test_the_three_ways_to_stop(cli, verb, ends):
    session_id = await cli.waiting_session()
    done = await cli(verb, session_id, "--reason", "enough", "--json")
    assert (done.code, done.json["how"]) == (0, "now")
    await cli.house.until(session_id, ends)
    assert "enough" in (await cli("show", session_id)).out


async def test_a_message_during_a_request_is_queued_or_steers_it_as_asked(cli):
    session_id = await cli.waiting_session()
    queued = await cli("send", session_id, "hello", "--id", "later", "--json")
    steering = await cli("send", session_id, "and quickly", "--steer", "--json")
    again = await cli("send", session_id, "hello", "--id", "later", "--json")
    assert [done.json["how"] for done in (queued, steering, again)] == ["queued", "now", "queued"]
    await cli("approve", session_id)
    bodies = [request.body for request in await cli.house.model.received(3)]
    last = [[block.get("text") for block in body["messages"][-1]["content"]] for body in bodies]
    assert last[1:] == [[None, "and quickly"], ["hello"]]
    assert "(steering)" in (await cli("show", session_id)).out


async def test_a_closed_session_takes_nothing_more(cli):
    done = await cli("run", "hello", "-o", "json")
    session_id = done.json["session_id"]
    for arguments in (["send", session_id, "more"], ["abort", session_id], ["close", session_id]):
        refused = await cli(*arguments)
        assert refused.code == 2
        assert "has ended" in refused.err


async def test_a_terminated_session_is_listed_as_ended_after_a_sweep(cli):
    session_id = await cli.waiting_session()
    await cli.house.handle(session_id).terminate("by a test")
    assert (await cli("session", "show", session_id, "-q")).out == "waiting\n"
    assert (await cli("saga", "sweep")).out.rstrip().endswith("; 1 dead session ended")
    assert (await cli("session", "show", session_id, "-q")).out == "aborted\n"
    assert (await cli("approval", "list", "--json")).json == []
    assert (await cli("saga", "sweep", "--json")).json["ended"] == []


async def test_ids_may_be_shortened_while_they_are_unique(cli):
    for name in ("short-1", "short-2", "brief"):
        await cli("start", "hello", "--id", name)
    assert (await cli("session", "show", "br", "--json")).json["session_id"] == "brief"
    ambiguous = await cli("session", "show", "short")
    assert ambiguous.code == 2
    assert "short-1" in ambiguous.err
    missing = await cli("session", "show", "nothing")
    assert missing.code == 3


async def test_every_reading_command_gives_the_fields_it_documents(cli):
    session_id = await cli.waiting_session()
    effect_id = (await cli("effect", "list", "--json")).json[0]["effect_id"]
    readers = {
        "holdfast session list": ["--json"],
        "holdfast session show": [session_id, "--json"],
        "holdfast show": [session_id, "--json"],
        "holdfast approval list": ["--json"],
        "holdfast effect list": ["--json"],
        "holdfast effect show": [effect_id, "--json"],
        "holdfast ledger show": [session_id, "--json"],
        "holdfast ledger verify": ["--json"],
        "holdfast tool list": ["--json"],
        "holdfast agent show": ["default", "--json"],
        "holdfast db status": ["--json"],
    }
    for path, arguments in readers.items():
        done = await cli(*path.split()[1:], *arguments)
        assert done.code == 0, done.err
        found = done.json[0] if isinstance(done.json, list) else done.json
        assert set(found) == {name for name in COMMANDS[path].fields if not name.startswith("with ")}, path


async def test_show_tells_the_story_in_order(cli):
    session_id = await cli.waiting_session()
    await cli("approve", session_id, "--as", "ann", "--reason", "hungry")
    await cli.house.until(session_id, "idle")
    shown = (await cli("show", session_id)).out
    told = [
        "Write file notes.txt",
        "waits for a person",
        "1.1 write_file approved: hungry",
        "✓ 1.1",
        "is written",
    ]
    places = [shown.index(words) for words in told]
    assert places == sorted(places)


async def test_an_export_verifies_without_a_database_and_an_edited_one_does_not(cli, tmp_path, monkeypatch):
    done = await cli("run", "hello", "-o", "json")
    assert (await cli("ledger", "export", done.json["session_id"], "--file", "out.jsonl")).code == 0
    assert (await cli("ledger", "verify")).code == 0
    monkeypatch.setenv("HOLDFAST_DSN", f"postgresql://nobody@{NOWHERE}/x")
    assert (await cli("ledger", "verify", "--export", "out.jsonl")).code == 0
    file = tmp_path / "out.jsonl"
    file.write_text(file.read_text().replace("claude-sonnet", "claude-sonata"))
    edited = await cli("ledger", "verify", "--export", "out.jsonl", "--json")
    assert edited.code == 1
    assert edited.json["bad"][0]["problem"]
    assert (await cli("ledger", "export", done.json["session_id"], "--file", "out.jsonl")).code == 2


async def test_reading_needs_no_temporal(cli, monkeypatch):
    done = await cli("run", "hello", "-o", "json")
    session_id = done.json["session_id"]
    monkeypatch.setenv("TEMPORAL_ADDRESS", NOWHERE)
    for arguments in (["show", session_id], ["session", "list"], ["approval", "list"], ["attach", session_id]):
        assert (await cli(*arguments)).code == 0, arguments
    away = await cli("send", session_id, "more")
    assert away.code == 4
    assert NOWHERE in away.err


async def test_without_a_worker_a_command_is_recorded_and_says_so(idle_cli):
    session_id = (await idle_cli("start", "hello", "-q")).out.strip()
    done = await idle_cli("send", session_id, "more")
    assert done.code == 0
    assert "no worker answers now" in done.out


async def test_verify_holds_the_ledger_against_what_temporal_was_told(cli):
    session_id = await cli.waiting_session()
    await cli("approve", session_id)
    await cli.house.until(session_id, "idle")
    whole = await cli("ledger", "verify", session_id, "--against-temporal", "--json")
    assert (whole.code, whole.json["compared"], whole.json["expired"]) == (0, 1, 0)
    await cli.house.rows("ALTER TABLE holdfast.entry DISABLE TRIGGER ALL")
    await cli.house.rows("DELETE FROM holdfast.entry WHERE kind = 'effect_outcome'")
    lost = await cli("ledger", "verify", session_id, "--against-temporal", "--json")
    assert lost.code == 1
    assert any("turn-1.1.write_file" in bad["problem"] for bad in lost.json["bad"])


async def test_a_follower_is_not_told_of_a_status_from_before_what_was_sent(cli, owner):
    session_id = (await cli("start", "hello", "-q")).out.strip()
    await cli.house.until(session_id, "idle")
    for command, code in [
        (("send", session_id, "Write file notes.txt saying Buy milk"), 5),
        (("approve", session_id), 0),
    ]:
        async with untold(owner, session_id):
            assert (await cli(*command)).code == 0
            following = asyncio.create_task(cli("attach", session_id, "--until", "waiting"))
            await asyncio.wait({following}, timeout=0.7)
            assert not following.done()
        assert (await asyncio.wait_for(following, 20)).code == code


@asynccontextmanager
async def untold(owner, session_id: str) -> AsyncIterator[None]:
    """The session goes on, and for this block the ledger cannot be told of it."""
    async with owner.transaction():
        await owner.execute("SELECT FROM holdfast.session WHERE id = $1 FOR NO KEY UPDATE", session_id)
        yield
