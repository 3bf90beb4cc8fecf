"""A model turn recorded: all of it in one statement, or nothing."""

from __future__ import annotations

from typing import Any

from holdfast import ids
from holdfast_ledger import parameters, places
from holdfast_ledger.database import Database
from holdfast_ledger.effects import assumed
from holdfast_ledger.outcomes import recorded
from holdfast_ledger.records import Recorded, TurnRecord
from holdfast_ledger.vault import Vault


async def record_turn(database: Database, vault: Vault, turn: TurnRecord) -> Recorded:
    seal = await vault.of(turn.session_id)
    usage = turn.usage
    columns = {
        "session_id": turn.session_id,
        "effect_id": turn.effect_id,
        "token": turn.token,
        "turn": turn.turn,
        "head": turn.head,
        "next_head": turn.next_head,
        "digest": turn.digest,
        "stop_reason": turn.stop_reason,
        "model_asked": turn.model_asked,
        "model_answered": turn.model_answered,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "usd": turn.usd,
        "lost_attempts": turn.lost.attempts if turn.lost else 0,
        **assumed(turn.lost),
        "latency": turn.latency,
        "request_digest": turn.request_digest,
        "counted": turn.counted,
        "saga_id": turn.saga_id,
        "saga_epoch": turn.saga_epoch,
        "commit_saga": turn.commit_saga,
    }
    calls = [
        {
            "effect_id": call.effect_id,
            "call": call.call,
            "tool_use_id": call.tool_use_id,
            "tool": call.tool,
            "tool_version": call.tool_version,
            "tier": call.tier,
            "recovery": call.recovery,
            "digest": call.digest,
            "preview": seal.seal_text(places.preview(call.call, call.digest), call.preview),
            "semantic_key": call.semantic_key,
        }
        for call in turn.calls
    ]
    row = await database.one(
        "record_turn",
        parameters.clear_json(columns),
        seal.seal(places.effect("outcome", turn.effect_id), ids.canonical(dict(turn.outcome))),
        seal.seal(places.content(turn.digest), turn.body),
        seal.seal(places.attempt("report", turn.effect_id, turn.token), ids.canonical(_turn_body(turn))),
        parameters.clear_json(calls),
        [seal.seal(places.effect("args", call.effect_id), call.args) for call in turn.calls],
        [seal.seal(places.effect("args_salt", call.effect_id), call.salt) for call in turn.calls],
    )
    return recorded(row, turn.effect_id, seal)


def _turn_body(turn: TurnRecord) -> dict[str, Any]:
    """What the ledger keeps of a turn for ever: digests of all that was said, and what it cost."""
    return {
        "head": turn.head,
        "next_head": turn.next_head,
        "message": turn.digest,
        "request": turn.request_digest,
        **({"final": turn.final} if turn.final is not None else {}),
        **({"summary": True} if turn.summary else {}),
        **({"counted": turn.counted} if turn.counted is not None else {}),
        "stop_reason": turn.stop_reason,
        "model_asked": turn.model_asked,
        "model_answered": turn.model_answered,
        "usage": {
            "input": turn.usage.input,
            "output": turn.usage.output,
            "cache_read": turn.usage.cache_read,
            "cache_write": turn.usage.cache_write,
        },
        "usd": None if turn.usd is None else str(turn.usd),
        **({"lost": turn.lost.model_dump(mode="json")} if turn.lost else {}),
        "calls": [
            {"call": call.call, "tool": call.tool, "version": call.tool_version, "args": call.digest}
            for call in turn.calls
        ],
        "salts": {call.call: call.salt.hex() for call in turn.calls},
    }
