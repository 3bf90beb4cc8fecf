"""`holdfast.toml`: what it means, and what is said of every mistake in it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from holdfast.budget import Usage
from holdfast.config import Config, ConfigError
from holdfast.pricing import cost_usd
from holdfast.states import RecoveryClass, Tier
from holdfast_workers.config_file import load_config, parse_config

WHOLE = """
[agents.support]
model = "claude-sonnet-5"
system = '''
[agents.not_a_table]
You help.
'''
tools = ["read_file", "refund"]
tool_choice = { type = "any" }

[agents.support.limits]
turns = 10
usd = 1.5
wall_time = "2h"
idle_timeout = 90

[agents.support.policy]
ask = ["write_*"]
ask_tiers = ["reversible", "irreversible"]
approval_expiry = "15m"
roles.clerk.tools = ["read_*"]

[tools.refund]
run = "acme.payments:refund"
tier = "irreversible"
recovery = "idempotent"
key_ttl = "48h"
timeout = "90s"
attempts = 3
never_undone = "money has left"
owner = "payments"
cost_usd = 0.02

[http]
allow_hosts = ["api.example.com"]
timeout = "500ms"

[sql]
dsn_env = "REPORTING_DSN"

[secrets]
allow = ["ACME_TOKEN"]

[prices."claude-sonnet-5"]
input = 1
output = 2
cache_write = 1.25
cache_read = 0.1
"""


def test_every_table_is_read() -> None:
    config = parse_config(WHOLE)

    support = config.agents["support"]
    assert (support.name, support.tools, support.tool_choice.type) == ("support", ("read_file", "refund"), "any")
    assert support.system.startswith("[agents.not_a_table]")
    assert support.limits.usd == Decimal("1.5")
    assert support.limits.wall_time == timedelta(hours=2)
    assert support.limits.idle_timeout == timedelta(seconds=90)
    assert support.policy.approval_expiry == timedelta(minutes=15)
    assert support.policy.ask_tiers == {Tier.REVERSIBLE, Tier.IRREVERSIBLE}
    refund = config.tools["refund"]
    assert (refund.recovery, refund.key_ttl, refund.attempts) == (RecoveryClass.IDEMPOTENT, timedelta(hours=48), 3)
    assert config.http.timeout == timedelta(milliseconds=500)
    assert config.secrets.allow == ("ACME_TOKEN",)
    million = Usage(input=1_000_000)
    assert cost_usd("claude-sonnet-5", million, overrides=config.price_table) == 1


def test_without_a_file_one_agent_works_in_the_workspace() -> None:
    config = load_config(None)

    assert config == Config()
    assert list(config.agents) == ["default"]
    assert {"read_file", "write_file", "search_files"} <= set(config.agents["default"].tools)


def test_an_agent_of_ones_own_replaces_the_default_one() -> None:
    assert list(parse_config("[agents.mine]\n").agents) == ["mine"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[agents.a\n", "holdfast.toml:1:10: not TOML: Expected ']' at the end of a table declaration"),
        ('a = "\n', "holdfast.toml:1:6: not TOML: Illegal character"),
        ("[agents.a]\nsystem = '''\n", "holdfast.toml:2: not TOML: "),
        ("\n\n[agnets.a]\n", "holdfast.toml:3: unknown key `agnets`; did you mean `agents`?"),
        (
            "[agents.a]\nmodel = 'm'\ntols = []\n",
            "holdfast.toml:3: [agents.a] unknown key `tols`; did you mean `tools`?",
        ),
        (
            "[agents.a]\n[agents.a.limits]\nturnz = 3\n",
            "holdfast.toml:3: [agents.a.limits] unknown key `turnz`; did you mean `turns`?",
        ),
        (
            "[agents.a]\nlimits.turns = 'many'\n",
            "holdfast.toml:2: [agents.a.limits] `turns`: input should be a valid integer, "
            "unable to parse string as an integer; got 'many'",
        ),
        (
            "[agents.a]\n[agents.a.limits]\nwall_time = 'soon'\n",
            'holdfast.toml:3: [agents.a.limits] `soon` is no duration; write "30s", "15m", "24h" or seconds',
        ),
        ("[agents]\na = 3\n", "holdfast.toml:2: [agents] `a`: input should be a valid dictionary"),
        (
            "[agents.a]\nqqqqqq = 1\n",
            "holdfast.toml:2: [agents.a] unknown key `qqqqqq`; expected one of `model`, `system`,",
        ),
        ("[tools.t]\ntier = 'read'\n", 'holdfast.toml:1: [tools.t] `run` is missing: `run = "module:function"`'),
        (
            "[tools.t]\nrun = 'acme.tools'\n",
            "holdfast.toml:2: [tools.t] `run`: write it as \"module:function\"; got 'acme.tools'",
        ),
        (
            "[tools.t]\nrun = 'a:b'\ntier = 'harmless'\n",
            "holdfast.toml:3: [tools.t] `tier`: input should be 'read', 'reversible', 'irreversible' or 'privi",
        ),
        (
            "[tools.t]\nrun = 'a:b'\nundo = 'u'\nnever_undone = 'w'\n",
            "holdfast.toml:1: [tools.t] give `undo` or `never_undone`, not both",
        ),
        (
            "[tools.t]\nrun = 'a:b'\nrecovery = 'probe'\n",
            'holdfast.toml:1: [tools.t] recovery = "probe" and `probe = "module:function"` belong together',
        ),
        (
            '[prices."claude-x"]\ninput = -1\noutput = 1\ncache_read = 0\ncache_write = 0\n',
            "holdfast.toml:2: [prices.claude-x] `input`: input should be greater than or equal to 0; got -1",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_was_expected(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(text)

    assert raised.value.problems[0].startswith(problem)


def test_an_agents_name_is_its_tables_and_cannot_be_another() -> None:
    with pytest.raises(ConfigError, match="the table's name is the agent's"):
        parse_config("[agents.a]\nname = 'b'\n")


def test_all_mistakes_are_told_at_once_in_the_files_order() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config("[agents.a]\ntols = []\n\n[http]\nallow = []\n\n[tools.t]\n")

    lines = [problem.split(":")[1] for problem in raised.value.problems]
    assert lines == ["2", "5", "7"]


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; `holdfast init` writes one"):
        load_config(tmp_path / "holdfast.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_a_file_is_read_from_its_place(tmp_path: Path) -> None:
    path = tmp_path / "my holdfast.toml"
    path.write_text("[agents.a]\ntols = []\n")

    with pytest.raises(ConfigError) as raised:
        load_config(path)

    assert str(raised.value).startswith(f"{path}:2: ")


def test_a_lease_shorter_than_three_renewals_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^holdfast.toml:2: \[effects\] a lease of 10 s is shorter than three"):
        parse_config('\n[effects]\nlease = "10s"\n')
