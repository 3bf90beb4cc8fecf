"""Which calls run, which ask, which are denied."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.policy import POLICY_VERSION, Policy, RolePolicy, decide
from holdfast.states import Tier, Verdict


def verdict(
    policy: Policy, tool: str, tier: Tier, *, roles: tuple[str, ...] = (), facts: dict[str, Any] | None = None
) -> Verdict:
    return decide(POLICY_VERSION, policy, tool=tool, tier=tier, facts=facts or {}, roles=roles).verdict


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (Tier.READ, Verdict.ALLOW),
        (Tier.REVERSIBLE, Verdict.ALLOW),
        (Tier.IRREVERSIBLE, Verdict.ASK),
        (Tier.PRIVILEGED, Verdict.DENY),
    ],
)
def test_without_rules_the_tier_decides(tier: Tier, expected: Verdict) -> None:
    assert verdict(Policy(), "any", tier) is expected


def test_nothing_lifts_a_privileged_tool() -> None:
    assert verdict(Policy(allow=("*",), ask=("*",)), "grant", Tier.PRIVILEGED) is Verdict.DENY


def test_deny_wins_over_ask_and_ask_over_allow() -> None:
    policy = Policy(deny=("send_*",), ask=("send_mail", "pay"), allow=("*",))
    assert verdict(policy, "send_mail", Tier.READ) is Verdict.DENY
    assert verdict(policy, "pay", Tier.READ) is Verdict.ASK
    assert verdict(policy, "refund", Tier.IRREVERSIBLE) is Verdict.ALLOW


def test_the_facts_of_the_arguments_set_the_tier() -> None:
    assert verdict(Policy(), "http_request", Tier.IRREVERSIBLE, facts={"tier": "read"}) is Verdict.ALLOW
    assert verdict(Policy(), "http_request", Tier.READ, facts={"tier": "irreversible"}) is Verdict.ASK


def test_a_role_may_use_only_what_it_lists() -> None:
    policy = Policy(roles={"clerk": RolePolicy(tools=("get_*",))})
    assert verdict(policy, "get_booking", Tier.READ, roles=("clerk",)) is Verdict.ALLOW
    assert verdict(policy, "refund", Tier.READ, roles=("clerk",)) is Verdict.DENY
    assert verdict(policy, "get_booking", Tier.READ, roles=("stranger",)) is Verdict.DENY


def test_an_unknown_policy_version_is_not_guessed() -> None:
    with pytest.raises(KeyError):
        decide(999, Policy(), tool="any", tier=Tier.READ, facts={}, roles=())
