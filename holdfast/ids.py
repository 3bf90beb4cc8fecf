"""Identities and digests: the same inputs give the same id on every worker, attempt and replay.

Everything hashed is length-prefixed and domain-separated, so that no two different inputs share bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NewType

EffectId = NewType("EffectId", str)
Digest = NewType("Digest", str)
"""Lower-case hex of a SHA-256."""

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
"""Made once: `json.dumps` makes one for each call, which takes as long as a small value."""


def canonical(value: Any) -> bytes:
    """JSON bytes with sorted keys, no blanks, ASCII only (so that lone surrogates survive).

    Raises:
        ValueError: on NaN or infinity.
        TypeError: on a value JSON has no form for.
    """
    return _CANONICAL.encode(value).encode("ascii")


def digest(body: bytes) -> Digest:
    return Digest(hashlib.sha256(body).hexdigest())


def _hash(domain: str, *parts: str) -> str:
    sha = hashlib.sha256()
    for part in (domain, *parts):
        data = part.encode("utf-8", "surrogatepass")
        sha.update(len(data).to_bytes(8, "big") + data)
    return sha.hexdigest()


def effect_id(session_id: str, path: str, head: str, ordinal: int = 0) -> EffectId:
    """Name an effect by where it stands in the conversation, never by who attempts it.

    Args:
        path: `turn_path` or `call_path`.
        head: digest over all messages before the turn, so a divergent branch gets other ids.
        ordinal: counts siblings of one path; 0 for calls.
    """
    return EffectId(_hash("holdfast.effect.1", session_id, path, head, str(ordinal)))


def idempotency_key(effect_id: str, keys_refused: int) -> str:
    """What an effect is sent with: its id, until its service refuses that for good because a probe asked it to."""
    return f"{effect_id}:{keys_refused}" if keys_refused else effect_id


def turn_path(turn: int) -> str:
    return f"turn-{turn}"


def call_path(turn: int, tool_use_id: str) -> str:
    return f"turn-{turn}/{tool_use_id}"


def step_path(step: str) -> str:
    """Of a step of a code-defined saga; its head is empty, so that a reset finds what landed."""
    return f"step/{step}"


def first_head(session_id: str) -> Digest:
    """The head of a session without messages."""
    return Digest(_hash("holdfast.head.1", session_id))


def next_head(head: str, message: str) -> Digest:
    """The head after one more message, given that message's digest."""
    return Digest(_hash("holdfast.head.1", head, message))


def results_digest(outcomes: list[tuple[str, str, str]]) -> Digest:
    """Digest of a turn's tool results: (tool_use_id, status, result digest or text), in tool_use order."""
    return Digest(_hash("holdfast.results.1", *(part for outcome in outcomes for part in outcome)))


def saga_id(session_id: str, request: int, head: str) -> str:
    """Id of the implicit saga a request opens; the head keeps branches of a reset apart."""
    return f"{session_id}/request-{request}-{head[:8]}"


def semantic_key(tool: str, scope: str, scope_id: str, key: str) -> Digest:
    """What two calls share that mean the same to the outside, whatever their ids; the ledger keeps it salted.

    Args:
        scope, scope_id: among whose calls: `tenant` and its name, or `session` and its id.
        key: what the tool's `semantic_key` says of the arguments.
    """
    return Digest(_hash("holdfast.semantic.1", tool, scope, scope_id, key))


def salted_digest(salt: bytes, body: bytes) -> Digest:
    """Digest of a call's arguments that can be shown to an approver without being guessable."""
    return Digest(hashlib.sha256(b"holdfast.args.1" + len(salt).to_bytes(8, "big") + salt + body).hexdigest())
