"""Ids and digests: golden vectors, since a changed id would run a standing effect again."""

from __future__ import annotations

import pytest

from holdfast import ids

HEAD = "6c0b47ed7a7a1e263da3b766ca39660d26c937333690d1bb84dfab273654b1b1"


def test_heads_are_what_they_were() -> None:
    assert ids.first_head("s-1") == "87f6795de3a29e74ae1288aba827c496feab815af6034e1be64d1bff13efe74d"
    assert ids.next_head(ids.first_head("s-1"), "d" * 64) == HEAD


def test_effect_ids_are_what_they_were() -> None:
    turn = "32ffe99add5c058800f75121b807b29b7f3e68f111dd6343d37f44edccd2b0ce"
    call = "f60650896fdf9acd85a4ed69008f3dc26970264e9966d94c7cc45618e293977e"
    assert ids.effect_id("s-1", ids.turn_path(3), HEAD) == turn
    assert ids.effect_id("s-1", ids.call_path(3, "toolu_1"), HEAD) == call


def test_digests_are_what_they_were() -> None:
    results = "87e596842a5f6a51be7a9f6d6c95b082d79e82d212283d7b9a07023e86de9a76"
    salted = "026f44ffd98210cd9b7193702a83edbc28bb5e050756ed0734ad4f67feeb3c6f"
    assert ids.results_digest([("toolu_1", "ok", "abc"), ("toolu_2", "denied", "no")]) == results
    assert ids.salted_digest(b"salt", b"{}") == salted


def test_another_branch_of_the_conversation_gives_another_effect() -> None:
    path = ids.call_path(3, "toolu_1")
    assert ids.effect_id("s-1", path, HEAD) != ids.effect_id("s-1", path, ids.next_head(HEAD, "e" * 64))


def test_parts_cannot_run_into_each_other() -> None:
    assert ids.effect_id("ab", "c", "h") != ids.effect_id("a", "bc", "h")


def test_canonical_json_has_one_form_and_keeps_lone_surrogates() -> None:
    assert ids.canonical({"b": 1, "a": ["\ud800", "é"]}) == b'{"a":["\\ud800","\\u00e9"],"b":1}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_has_no_form_for(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ids.canonical(value)
