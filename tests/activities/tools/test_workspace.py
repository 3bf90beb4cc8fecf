"""The workspace tools: no path leaves it, writes are whole, undoable and safe to repeat."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from holdfast import ToolRefused
from holdfast.ids import digest
from holdfast_activities.resources import RESOURCES, Resources
from holdfast_activities.tools.builtin import (
    edit_file,
    list_files,
    read_file,
    restore_file,
    search_files,
    write_file,
)
from holdfast_activities.tools.builtin.workspace import OutcomeInDoubt, Workspace


@dataclass
class Context:
    """What the file tools take of a ToolContext."""

    resources: dict[str, Any]
    idempotency_key: str = field(default_factory=lambda: digest(os.urandom(8)))

    def heartbeat(self) -> None:
        pass


async def _nothing(session: str, call: str) -> bytes | None:
    return None


def context(root: Path, key: str = "a" * 64) -> Any:
    return Context({RESOURCES: Resources(workspace=root, read_result=_nothing)}, digest(key.encode()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with a secret beside it and links that lead out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("TOP SECRET")
    root = tmp_path / "workspace"
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "plan.md").write_text("one\ntwo\nthree\n")
    (root / "inner").symlink_to("notes")
    (root / "out").symlink_to(outside)
    (root / "up").symlink_to("../outside")
    (root / "absolute.txt").symlink_to(outside / "secret.txt")
    (root / "notes" / "back").symlink_to("../notes/plan.md")
    (root / "loop").symlink_to("loop")
    return root


OUTSIDE = (
    *("../outside/secret.txt", "/etc/passwd", "notes/../../outside/secret.txt", "out/secret.txt"),
    *("up/secret.txt", "absolute.txt", "loop", "loop/x", ".holdfast/x", "notes/\0", "./../outside/secret.txt"),
)


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leaves_the_workspace(root: Path, path: str) -> None:
    tools = {
        "read": lambda: read_file(context(root), path),
        "write": lambda: write_file(context(root), path, "overwritten"),
        "edit": lambda: edit_file(context(root), path, "SECRET", "x"),
        "list": lambda: list_files(context(root), path),
        "search": lambda: search_files(context(root), "SECRET", path),
        "restore": lambda: restore_file(context(root), path, "a" * 64, "b" * 64),
    }
    for run in tools.values():
        with pytest.raises(ToolRefused):
            run()
    assert (root.parent / "outside" / "secret.txt").read_text() == "TOP SECRET"
    assert sorted(each.name for each in (root.parent / "outside").iterdir()) == ["secret.txt"]


def test_links_that_stay_inside_are_followed(root: Path) -> None:
    assert (
        read_file(context(root), "inner/plan.md") == read_file(context(root), "notes/back") == "one\ntwo\nthree\n"
    )


def test_listing_and_searching_do_not_look_through_links(root: Path) -> None:
    assert list_files(context(root)) == ["notes/plan.md (14 bytes)"]
    assert search_files(context(root), "SECRET") == []
    assert search_files(context(root), "TWO", ignore_case=True) == ["notes/plan.md:2: two"]


@pytest.mark.parametrize("directory", [".git", ".venv/lib", "src/node_modules", "src/__pycache__"])
def test_what_programs_keep_is_left_out_unless_it_is_asked_for(root: Path, directory: str) -> None:
    (root / directory).mkdir(parents=True)
    (root / directory / "kept.txt").write_text("TWO\n")

    assert list_files(context(root)) == ["notes/plan.md (14 bytes)"]
    assert search_files(context(root), "TWO") == []
    assert list_files(context(root), directory) == [f"{directory}/kept.txt (4 bytes)"]
    assert search_files(context(root), "TWO", directory) == [f"{directory}/kept.txt:1: TWO"]


def test_a_directory_swapped_for_a_link_after_the_check_leads_nowhere(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "target").mkdir()
    look = os.readlink

    def look_then_swap(name: str, *, dir_fd: int | None = None) -> str:
        try:
            return look(name, dir_fd=dir_fd)
        finally:
            if name == "target":
                (root / "target").rename(root / "aside")
                (root / "target").symlink_to("../outside")

    monkeypatch.setattr(os, "readlink", look_then_swap)  # the race at its worst moment

    with pytest.raises(ToolRefused):
        write_file(context(root), "target/secret.txt", "overwritten")

    assert (root.parent / "outside" / "secret.txt").read_text() == "TOP SECRET"


def test_a_file_swapped_for_a_link_after_the_check_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").write_text("inside")
    look = os.readlink

    def look_then_swap(name: str, *, dir_fd: int | None = None) -> str:
        try:
            return look(name, dir_fd=dir_fd)
        finally:
            (root / "file").unlink()
            (root / "file").symlink_to("../outside/secret.txt")

    monkeypatch.setattr(os, "readlink", look_then_swap)

    with pytest.raises(ToolRefused):
        read_file(context(root), "file")


def test_a_pipe_or_device_is_no_file(root: Path) -> None:
    os.mkfifo(root / "pipe")

    with pytest.raises(ToolRefused, match="no plain file"):
        read_file(context(root), "pipe")


def test_a_file_is_read_in_parts_and_binary_is_refused(root: Path) -> None:
    (root / "image").write_bytes(b"\xff\xfe\x00")

    assert read_file(context(root), "notes/plan.md", 2, 1) == "two\n"
    with pytest.raises(ToolRefused, match="3 lines; line 9"):
        read_file(context(root), "notes/plan.md", 9)
    with pytest.raises(ToolRefused, match="no UTF-8 text"):
        read_file(context(root), "image")


def test_a_write_is_undone_to_what_was_there(root: Path) -> None:
    made = write_file(context(root, "1"), "new/deep/file.txt", "hello")
    changed = edit_file(context(root, "2"), "notes/plan.md", "two", "2")
    assert (root / "notes" / "plan.md").read_text() == "one\n2\nthree\n"

    for tool, result in ((write_file, made), (edit_file, changed)):
        assert tool.undo_args is not None
        undo = tool.undo_args({"path": result["path"]}, result)
        for _ in range(2):  # "already undone" is success
            restore_file(context(root, "3"), **undo)

    assert not (root / "new" / "deep" / "file.txt").exists()
    assert (root / "notes" / "plan.md").read_text() == "one\ntwo\nthree\n"


def test_an_undo_never_destroys_a_later_edit(root: Path) -> None:
    result = write_file(context(root), "notes/plan.md", "ours")
    (root / "notes" / "plan.md").write_text("a person's")

    with pytest.raises(ToolRefused, match="changed since"):
        restore_file(context(root), "notes/plan.md", result["kept"], result["sha256"])

    assert (root / "notes" / "plan.md").read_text() == "a person's"


def test_the_same_key_again_changes_nothing_and_gives_the_same_result(root: Path) -> None:
    first = edit_file(context(root, "1"), "notes/plan.md", "one", "one one")
    again = edit_file(context(root, "1"), "notes/plan.md", "one", "one one")

    assert first == again
    assert (root / "notes" / "plan.md").read_text() == "one one\ntwo\nthree\n"


def test_a_repeated_write_never_overwrites_what_somebody_wrote_meanwhile(root: Path) -> None:
    write_file(context(root, "1"), "notes/plan.md", "ours")
    (root / "notes" / "plan.md").write_text("a person's")

    with pytest.raises(OutcomeInDoubt):
        write_file(context(root, "1"), "notes/plan.md", "ours")

    assert (root / "notes" / "plan.md").read_text() == "a person's"


def test_parallel_edits_of_one_file_do_not_lose_each_other(root: Path) -> None:
    words = [f"word{number:02}" for number in range(40)]
    (root / "file").write_text(" ".join(words))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda word: edit_file(context(root, word), "file", word, word.upper()), words))

    assert (root / "file").read_text() == " ".join(words).upper()


def test_an_edit_must_match_exactly_once(root: Path) -> None:
    with pytest.raises(ToolRefused, match="occurs 2 times"):
        edit_file(context(root), "notes/plan.md", "t", "T")
    with pytest.raises(ToolRefused, match="occurs 0 times"):
        edit_file(context(root), "notes/plan.md", "four", "4")


def test_a_write_keeps_the_files_mode_and_leaves_no_scratch(root: Path) -> None:
    (root / "notes" / "plan.md").chmod(0o600)

    write_file(context(root), "notes/plan.md", "x")

    assert (root / "notes" / "plan.md").stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in (root / "notes").iterdir()) == ["back", "plan.md"]


def test_a_missing_workspace_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolRefused, match="workspace cannot be opened"):
        Workspace(tmp_path / "nowhere").read("x")
