"""The auditor's own verifier: it agrees with ours on real exports and on edited ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.chain import entry_hash
from holdfast_ledger.checkpointing import make_checkpoint
from holdfast_ledger.export import export_checkpoints, export_session, parse_entry, verify_export
from holdfast_ledger.signing import SigningKey, TrustedKeys, new_key
from tests.ledger.conftest import Conversation

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "auditor" / "verify_export.py"
KEY = SigningKey.of_pem(new_key())
TRUSTED = TrustedKeys.of_pem(KEY.public_pem)


@pytest.fixture
async def exports(ledger, owner, tmp_path: Path) -> Path:
    """`session.jsonl`, `checkpoints.jsonl` and `key.pem` of a ledger with three sessions."""
    database = ledger.database
    sessions = [Conversation(ledger=ledger, owner=owner, session_id=f"trip-é-{number}") for number in range(3)]
    for session in sessions:
        await session.open()
    await make_checkpoint(database, KEY, wait=True)
    call = await sessions[0].plan(RecoveryClass.IDEMPOTENT)
    granted = await sessions[0].grant(call)
    await sessions[0].record(call, granted.token, EffectState.DONE)
    await owner.execute("SET ROLE holdfast_owner")
    await owner.execute(
        "SELECT holdfast.append(session_key, 'odd', sha256('x'), 'odd', now(), '\\x00ff') FROM holdfast.session"
    )
    await make_checkpoint(database, KEY, wait=True)
    write(tmp_path / "session.jsonl", [line async for line in export_session(database, "trip-é-0")])
    write(tmp_path / "checkpoints.jsonl", [line async for line in export_checkpoints(database)])
    (tmp_path / "key.pem").write_text(KEY.public_pem)
    return tmp_path


def write(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines))


def verify(place: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *arguments], cwd=place, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_it_is_short_and_imports_nothing_of_holdfast() -> None:
    text = SCRIPT.read_text()
    modules = [
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    ]

    assert len(text.splitlines()) <= 165
    assert set(modules) - sys.stdlib_module_names == {"cryptography"}


async def test_real_exports_hold(exports: Path) -> None:
    for arguments in (
        ["session.jsonl"],
        ["session.jsonl", "--key", "key.pem"],
        ["session.jsonl", "--key", "key.pem", "--checkpoints", "checkpoints.jsonl"],
        ["checkpoints.jsonl", "--key", "key.pem", "--checkpoints", "checkpoints.jsonl"],
    ):
        code, said = verify(exports, *arguments)
        assert (code, "lines hold" in said) == (0, True), said


def edit(number: int, **changes: object):
    def edited(lines: list[str]) -> list[str]:
        edited = list(lines)
        edited[number] = json.dumps(json.loads(lines[number]) | changes)
        return edited

    return edited


def forge(lines: list[str]) -> list[str]:
    """Entry 2 says something else, every hash fits, and no checkpoint stands beside them."""
    header, *rest = map(json.loads, lines)
    entries = [line for line in rest if "checkpoint" not in line]
    entries[1]["actor"] = "eve"
    for before, line in zip([None, *entries], entries, strict=False):
        line["prev"] = before["hash"] if before else line["prev"]
        line["hash"] = entry_hash(parse_entry(dict(line))).hex()
    return [json.dumps(line) for line in ({**header, "head": entries[-1]["hash"]}, *entries)]


SESSIONS = {
    "a changed field": (edit(2, actor="eve"), "entry 2 was changed"),
    "a changed time": (edit(2, at="2026-07-01T12:00:00.000001+00:00"), "entry 2 was changed"),
    "a line removed": (lambda lines: [*lines[:2], *lines[3:]], "entry 2 is missing"),
    "two lines swapped": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "entry 2 is missing"),
    "another session": (edit(0, session_id="other"), "entry 1 does not follow"),
    "a place in a checkpoint": (edit(-1, index=1), "does not say so"),
    "a checkpoint's time": (
        lambda lines: edit(-1, checkpoint=json.loads(lines[-1])["checkpoint"] | {"number": 9})(lines),
        "checkpoint 9 was changed",
    ),
    "no JSON": (lambda lines: [*lines[:2], "{", *lines[3:]], "cannot be read"),
}


async def test_edited_exports_of_a_session_are_found_by_it_and_by_us(exports: Path) -> None:
    lines = (exports / "session.jsonl").read_text().splitlines()
    for name, (change, expected) in SESSIONS.items():
        edited = change(lines)
        write(exports / "edited.jsonl", edited)
        code, said = verify(exports, "edited.jsonl", "--key", "key.pem")
        assert (code, expected in said) == (1, True), (name, said)
        if name != "no JSON":
            assert not verify_export(edited, TRUSTED).ok, name


async def test_what_an_export_alone_cannot_show_a_kept_log_shows(exports: Path) -> None:
    lines = (exports / "session.jsonl").read_text().splitlines()
    write(exports / "forged.jsonl", forge(lines))

    assert verify(exports, "forged.jsonl", "--key", "key.pem")[0] == 0
    code, said = verify(exports, "forged.jsonl", "--key", "key.pem", "--checkpoints", "checkpoints.jsonl")
    assert (code, "is not the one a checkpoint knows" in said) == (1, True), said


async def test_another_key_and_an_edited_log_are_found(exports: Path) -> None:
    (exports / "other.pem").write_text(SigningKey.of_pem(new_key()).public_pem)
    assert "is signed with key" in verify(exports, "session.jsonl", "--key", "other.pem")[1]
    lines = (exports / "checkpoints.jsonl").read_text().splitlines()
    for change, expected in (
        (lambda: [lines[0], lines[2]], "checkpoint 1 is missing"),
        (lambda: [lines[0], lines[1], lines[2].replace("trip", "trap")], "made over other sessions"),
        (lambda: edit(2, signature="00" * 64)(lines), "its key did not make"),
        (lambda: lines[:2], "not the log that was kept"),
    ):
        write(exports / "edited.jsonl", change())
        code, said = verify(exports, "edited.jsonl", "--key", "key.pem", "--checkpoints", "checkpoints.jsonl")
        assert (code, expected in said) == (1, True), said
