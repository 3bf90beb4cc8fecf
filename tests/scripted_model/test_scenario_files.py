"""Scenarios are checked when they are loaded; what is wrong is named with its file and field."""

from pathlib import Path

import pytest

from holdfast_workers.scripted_model import ScenarioError, load

GOOD = "name: {name}\ndescription: d\nexample: {name}\nmatch: {name}\nturns: [{{text: hi}}]\n"


def broken(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load([file], shipped=False)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_a_missing_or_unknown_field_is_named(tmp_path):
    assert "match: Field required" in broken(tmp_path, "{name: a, description: d, example: e, turns: [{text: hi}]}")
    text = "{name: a, description: d, example: e, match: e, turns: [{calls: [{tool: x, inptu: {}}]}]}"
    assert "turns.0.calls.0.inptu: Extra inputs" in broken(tmp_path, text)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ("{text: '{{ oops'}", "turns.0: Value error, `{{ oops` is no template"),
        ("{text: hi, when: 'a ==='}", "turns.0.when: Value error, `a ===` is no expression"),
        ("{thinking: hm}", "needs text, blocks, calls or a stop_reason"),
        ("{text: hi, faults: [{kind: earthquake}]}", "turns.0.faults.0: Input tag 'earthquake'"),
        ("{text: hi, faults: [{kind: http_error}]}", "turns.0.faults.0.http_error.status: Field required"),
    ],
)
def test_what_is_wrong_with_a_turn_is_said(tmp_path, turn, message):
    assert message in broken(tmp_path, f"{{name: a, description: d, example: e, match: e, turns: [{turn}]}}")


def test_a_match_that_cannot_work_is_refused(tmp_path):
    start = "{name: a, description: d, example: e, turns: [{text: hi}], match: "
    assert "no regular expression" in broken(tmp_path, start + "'('}")
    assert "needs a regex or phrases" in broken(tmp_path, start + "{}}")
    assert "the example `e` does not match" in broken(tmp_path, start + "f}")


def test_what_is_not_yaml_is_named_with_its_line(tmp_path):
    assert "line 2," in broken(tmp_path, "name: a\nx: y: z\n")


def test_a_missing_file_and_an_empty_directory_are_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"nothing\.yaml: cannot be read"):
        load([tmp_path / "nothing.yaml"])
    with pytest.raises(ScenarioError, match=r"no \.yaml file"):
        load([tmp_path])


def test_own_scenarios_come_first_and_replace_shipped_ones_of_their_name(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD.format(name="mine") + "---\n" + GOOD.format(name="hello"))
    names = [scenario.name for scenario in load([tmp_path])]
    assert names[:2] == ["mine", "hello"]
    assert names.count("hello") == 1
    assert "move-booking" in names


def test_two_scenarios_of_one_name_are_refused():
    with pytest.raises(ScenarioError, match="two scenarios are named `a`"):
        load([GOOD.format(name="a"), GOOD.format(name="a")])
