"""What of an encrypted session's entries anyone may read: who allowed what, by which rule, and what came of it.

Never what people, models or tools said. It has the shape of the entry's body, so that the audit views look in one
place. Empty where the session is not encrypted: its body is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast import ids
from holdfast.facts import Fact, Kind
from holdfast_ledger.sealing import Seal

_DECIDED = ("rule", "policy_version", "authenticated")
_AUTHORIZATION = ("verdict", *_DECIDED)
_DECISIONS = (Kind.CALL_DECIDED, Kind.APPROVAL_DECIDED)


def of_fact(seal: Seal, fact: Fact) -> bytes:
    """Of a decision: the rule, the policy's version, whether the person was authenticated."""
    return _open(seal, _only(fact.body, _DECIDED)) if fact.kind in _DECISIONS else b""


def of_authorization(seal: Seal, authorization: Mapping[str, Any] | None) -> bytes:
    """Of an intent: what the attempt runs with."""
    said = _only(authorization or {}, _AUTHORIZATION)
    return _open(seal, {"authorization": said}) if said else b""


def of_outcome(seal: Seal, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Code, size and digest of a result. The digest is keyed: a short result could be guessed from a bare one."""
    said = _only(outcome, ("code", "size"))
    if digest := outcome.get("digest"):
        said["digest"] = seal.digest(str(digest).encode()).hex()
    return said


def of_report(seal: Seal, outcome: Mapping[str, Any]) -> bytes:
    """Of an attempt's end."""
    return _open(seal, {"outcome": of_outcome(seal, outcome)})


def of_given_up(seal: Seal, outcome: Mapping[str, Any]) -> bytes:
    """Of an effect that ended without a report: there the outcome is the entry's body."""
    return _open(seal, of_outcome(seal, outcome))


def _only(said: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: said[name] for name in names if said.get(name) is not None}


def _open(seal: Seal, said: Mapping[str, Any]) -> bytes:
    return ids.canonical(said) if said and seal.key_id is not None else b""
