"""From the tool_use blocks of an answer to calls that policy can decide on.

Every block becomes exactly one call, numbered in the order of the model. A block that cannot run is still a call,
with the reason for the model, and is stored as the API takes it back: valid id, valid name, an object as input.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast import ids
from holdfast.catalogue import Catalogue, ToolCard
from holdfast.contracts import Call, ModelTurn
from holdfast.errors import DeclarationError
from holdfast.saga_contracts import MAX_STEP_BYTES
from holdfast.tools import Tool
from holdfast_activities.messages_api.answer import Block
from holdfast_activities.tools.arguments import Misfit, check_call
from holdfast_ledger.records import PlannedCall

SALT_BYTES = 16
MAX_NAME = 64
MAX_MALFORMED = 10_000
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_ID = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")


class ToolBook(Protocol):
    def tool(self, card: ToolCard) -> Tool:
        """The code of a card. Raises DeclarationError when this worker does not have it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`content` is what is stored; `calls` go to the workflow; `planned` become effect rows."""

    content: list[dict[str, Any]]
    calls: tuple[Call, ...]
    planned: tuple[PlannedCall, ...]
    malformed: Mapping[str, str] = field(default_factory=dict)
    """By tool_use id, what came where arguments should be: for people who look into it, never for history."""


def plan_calls(blocks: Sequence[Block], *, request: ModelTurn, catalogue: Catalogue, book: ToolBook) -> Plan:
    """Check every tool_use block against its tool. Server tools' blocks are content, not calls."""
    planner = _Planner(request=request, catalogue=catalogue, book=book)
    content = [planner.take(block) if block.type == "tool_use" else dict(block.content) for block in blocks]
    return Plan(
        content=content,
        calls=tuple(planner.calls),
        planned=tuple(planner.planned),
        malformed=planner.malformed,
    )


class _Planner:
    def __init__(self, *, request: ModelTurn, catalogue: Catalogue, book: ToolBook) -> None:
        self._request = request
        self._catalogue = catalogue
        self._book = book
        self._ids: set[str] = set()
        self.calls: list[Call] = []
        self.planned: list[PlannedCall] = []
        self.malformed: dict[str, str] = {}

    def take(self, block: Block) -> dict[str, Any]:
        """Add the call of one block and return the block as it is stored."""
        tool_use_id, wrong_id = self._free_id(block.content.get("id"))
        name = str(block.content.get("name") or "")
        given = block.content.get("input")
        invalid = wrong_id or self._check(tool_use_id, name, given, block.malformed)
        if invalid is not None:
            self.calls.append(Call(tool_use_id=tool_use_id, tool=name[:MAX_NAME], invalid=invalid))
        if block.raw_input is not None:
            self.malformed[tool_use_id] = block.raw_input[:MAX_MALFORMED]
        self._ids.add(tool_use_id)
        return {
            **block.content,
            "id": tool_use_id,
            "name": _NOT_IN_NAMES.sub("_", name)[:MAX_NAME] or "unnamed",
            "input": given if isinstance(given, dict) else {},
        }

    def _free_id(self, given: Any) -> tuple[str, str | None]:
        """An id that the API takes back, and what was wrong with the given one."""
        number = len(self.calls) + 1
        if not isinstance(given, str) or not _ID.match(given):
            return (
                f"call_{self._request.turn}_{number}",
                "This call had no usable id, so it was not run; repeat it.",
            )
        if given in self._ids:
            return f"{given[:100]}_{number}", f"Two calls had the id `{given}`; this one was not run. Repeat it."
        return given, None

    def _check(self, tool_use_id: str, name: str, given: Any, malformed: str | None) -> str | None:
        """Plan the call, or say why it cannot run."""
        card = self._catalogue.card(name)
        if card is None:
            offered = ", ".join(f"`{each.name}`" for each in self._catalogue.tools) or "none"
            return f"There is no tool `{name[:MAX_NAME]}`; nothing was run. Your tools: {offered}."
        if malformed is not None:
            return f"The arguments of `{name}` could not be read: {malformed}. Nothing was run; send a JSON object."
        try:
            checked = check_call(self._book.tool(card), card, given)
        except DeclarationError:
            return f"`{name}` is not available at the moment; nothing was run."
        if isinstance(checked, Misfit):
            return checked.text
        salt = secrets.token_bytes(SALT_BYTES)
        digest = ids.salted_digest(salt, checked.args)
        path = ids.call_path(self._request.turn, tool_use_id)
        if card.saga and len(checked.args) > MAX_STEP_BYTES:
            return f"The arguments of `{name}` are {len(checked.args)} bytes; at most {MAX_STEP_BYTES} fit."
        self.calls.append(
            Call(
                tool_use_id=tool_use_id,
                tool=name,
                digest=digest,
                preview=checked.preview,
                facts=checked.facts,
                args=json.loads(checked.args) if card.saga else None,
            )
        )
        if card.handled == "workflow":
            return None  # waiting is no effect: nothing runs that could happen twice
        self.planned.append(
            PlannedCall(
                effect_id=ids.effect_id(self._request.session_id, path, self._request.head),
                call=f"{self._request.turn}.{len(self.calls)}",
                tool_use_id=tool_use_id,
                tool=name,
                tool_version=card.version,
                tier=checked.tier,
                recovery=checked.recovery,
                args=checked.args,
                salt=salt,
                digest=digest,
                preview=checked.preview,
                semantic_key=semantic_key(card, self._catalogue, self._request.session_id, checked.means),
            )
        )
        return None


def semantic_key(card: ToolCard, catalogue: Catalogue, session_id: str, means: str | None) -> str | None:
    """What an effect shares with every other that means the same. `means`: see `CheckedCall`."""
    if means is None:
        return None
    scope_id = session_id if card.repeat_scope == "session" else catalogue.principal.tenant or ""
    return ids.semantic_key(card.name, card.repeat_scope, scope_id, means)
