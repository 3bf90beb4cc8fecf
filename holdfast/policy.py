"""Policy: may this call run, must a person be asked, or is it denied. Pure functions of recorded data.

Old versions stay callable for ever: a session's catalogue names the version it was opened with, and a
replay must decide as the first run did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field

from holdfast.durations import Duration
from holdfast.states import Tier, Verdict
from holdfast.wire import Declared, Wire

POLICY_VERSION = 1


class RolePolicy(Declared):
    """What one role may use: tool-name globs."""

    tools: tuple[str, ...] = ("*",)


class Policy(Declared):
    """An agent's policy, from `[agents.NAME.policy]`. First match wins: deny, ask, allow, then the tier."""

    deny: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    """Tool-name globs. `allow` lets an irreversible tool run unasked; it never lifts `privileged`."""
    ask_tiers: frozenset[Tier] = frozenset({Tier.IRREVERSIBLE})
    roles: Mapping[str, RolePolicy] = Field(default_factory=dict)
    """When given, a call needs one of the principal's roles to list its tool."""
    approval_expiry: Duration = timedelta(hours=24)
    """How long a person may take to decide."""
    use_within: Duration = timedelta(hours=1)
    """How long a decision may wait for the first claim, on the database's clock."""
    on_repeat: Literal["refuse", "ask"] = "refuse"
    """A call whose semantic key stands already: `refuse` it, telling the model what stands, or `ask` a person."""
    on_unknown: Literal["hold", "tell"] = "hold"
    """`hold`: the session waits until a person says what happened; `tell`: the model is told at once."""
    on_abort: Literal["unwind", "keep", "ask"] = "unwind"
    """What a request that is aborted, fails or uses up its budget did: `unwind` undoes it, `keep` keeps it, `ask`
    leaves it to a person."""


class Decision(Wire):
    verdict: Verdict
    rule: str
    """Which rule decided, e.g. `tier:irreversible` or `policy.deny:send_*`."""
    reason: str = ""


def decide(
    version: int,
    policy: Policy,
    *,
    tool: str,
    tier: Tier,
    facts: Mapping[str, Any],
    roles: tuple[str, ...],
) -> Decision:
    """Decide one call with the policy code of `version`.

    Args:
        facts: the tool's own typed facts of these arguments; `tier` in it overrides the declared tier.

    Raises:
        KeyError: for a version this build does not know.
    """
    return _VERSIONS[version](policy, tool, Tier(facts.get("tier", tier)), roles)


def _decide_1(policy: Policy, tool: str, tier: Tier, roles: tuple[str, ...]) -> Decision:
    if denied := _match(policy.deny, tool):
        return Decision(
            verdict=Verdict.DENY, rule=f"policy.deny:{denied}", reason=f"policy denies the tool `{tool}`"
        )
    if policy.roles and not any(_match(policy.roles[role].tools, tool) for role in roles if role in policy.roles):
        return Decision(
            verdict=Verdict.DENY,
            rule="policy.roles",
            reason=f"none of the principal's roles may use `{tool}`",
        )
    if tier is Tier.PRIVILEGED:
        return Decision(
            verdict=Verdict.DENY,
            rule="tier:privileged",
            reason=f"`{tool}` is privileged; it is denied until signed approvals exist",
        )
    if asked := _match(policy.ask, tool):
        return Decision(verdict=Verdict.ASK, rule=f"policy.ask:{asked}")
    if allowed := _match(policy.allow, tool):
        return Decision(verdict=Verdict.ALLOW, rule=f"policy.allow:{allowed}")
    verdict = Verdict.ASK if tier in policy.ask_tiers else Verdict.ALLOW
    return Decision(verdict=verdict, rule=f"tier:{tier}")


def _match(globs: tuple[str, ...], tool: str) -> str | None:
    return next((glob for glob in globs if fnmatchcase(tool, glob)), None)


_VERSIONS: dict[int, Callable[[Policy, str, Tier, tuple[str, ...]], Decision]] = {1: _decide_1}
