"""What the model was sent in a recorded turn: built again from what is stored, and held against the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.errors import HoldfastError
from holdfast_activities.messages_api.remembering import remembered
from holdfast_activities.messages_api.request import build_request
from holdfast_ledger.store import Ledger
from holdfast_ledger.views import Turn


class TurnMissing(HoldfastError):
    """The session has no such turn, or none was recorded."""

    code = "not_found"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """`digest` is of the request built now; `turn.request_digest` of the one that was sent.

    `left_out` and `stubbed` count the messages and tool results that the agent's memory kept back.
    """

    turn: Turn
    params: Mapping[str, Any]
    headers: Mapping[str, str]
    digest: str
    left_out: int
    stubbed: int
    counted: int | None
    """Tokens that it would have had, where memory made it shorter for that."""

    @property
    def matches(self) -> bool:
        return self.digest == self.turn.request_digest


async def sent_in(ledger: Ledger, session_id: str, number: int) -> Sent:
    """The request of turn `number`; where a reset left more branches than one, of the turn recorded last.

    Raises:
        SessionMissing, TurnMissing: it is not there.
        HeadMissing, LedgerError: what it stood on is not there, or cannot be opened here.
    """
    session = await ledger.reader.session(session_id)
    recorded = await ledger.reader.turns(session_id)
    turn = next((each for each in reversed(recorded) if each.turn == number), None)
    if turn is None or session.catalogue_digest is None:
        raise TurnMissing(f"Session `{session_id}` has no recorded turn {number}; its last is {len(recorded)}.")
    catalogue = await ledger.catalogue(session.catalogue_digest)
    transcript = await ledger.transcript(session_id, turn.head)
    noted = await _noted(ledger, session_id, turn)
    counted = noted.get("counted")
    request = build_request(
        catalogue, transcript, final=noted.get("final"), summary=bool(noted.get("summary")), counted=counted
    )
    kept_back = remembered(transcript, catalogue.agent.memory, counted)
    return Sent(
        turn=turn,
        params=request.params,
        headers=request.headers,
        digest=request.digest,
        left_out=kept_back.left_out,
        stubbed=kept_back.stubbed,
        counted=counted,
    )


async def _noted(ledger: Ledger, session_id: str, turn: Turn) -> Mapping[str, Any]:
    """What the ledger's entry of the turn says."""
    entries = await ledger.reader.timeline(session_id)
    bodies = (each.body for each in entries if each.kind == "model_turn" and each.effect_id == turn.effect_id)
    body = next(bodies, None)
    return body if isinstance(body, Mapping) else {}
