"""The answer of a model, put together from the raw events of its stream.

Blocks are kept as the API sent them; deltas only grow them. Pure: bytes and time are the reader's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from holdfast.budget import Usage

PieceKind = Literal["text", "thinking", "tool_use"]


class Piece(NamedTuple):
    """Something to show at once: words, or the name of a tool that is about to be called."""

    kind: PieceKind
    text: str


@dataclass
class Block:
    """A content block that is still growing. Parts are joined once, when the block is whole."""

    content: dict[str, Any]
    parts: dict[str, list[str]] = field(default_factory=dict)
    json_parts: list[str] = field(default_factory=list)
    whole: bool = False
    malformed: str | None = None
    """Why the input of a tool_use block is no JSON; its `input` is `{}` then."""
    raw_input: str | None = None
    """What the model sent instead."""

    @property
    def type(self) -> str:
        return str(self.content.get("type"))

    def join(self) -> None:
        """Move the collected parts into the content."""
        for name, parts in self.parts.items():
            self.content[name] = str(self.content.get(name) or "") + "".join(parts)
        self.parts.clear()
        if self.json_parts:
            self._read_input("".join(self.json_parts))
            self.json_parts.clear()

    def _read_input(self, text: str) -> None:
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except RecursionError:
            self.malformed, value = "it is nested too deeply", {}
        except ValueError as error:
            self.malformed, value = f"it is not JSON ({error})", {}
        self.content["input"] = value
        self.raw_input = text if self.malformed is not None else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


@dataclass
class Answer:
    """What has come so far. `complete` once the API said that nothing follows."""

    blocks: dict[int, Block] = field(default_factory=dict)
    model: str | None = None
    message_id: str | None = None
    stop_reason: str | None = None
    complete: bool = False
    counted: dict[str, Any] = field(default_factory=dict)
    """The API's usage object, as far as it has come; its counts are cumulative."""

    @property
    def started(self) -> bool:
        """Whether the API took the request, so that it will be paid for."""
        return self.message_id is not None or bool(self.counted)

    @property
    def usage(self) -> Usage:
        def count(name: str) -> int:
            return int(self.counted.get(name) or 0)

        return Usage(
            input=count("input_tokens"),
            output=count("output_tokens"),
            cache_read=count("cache_read_input_tokens"),
            cache_write=count("cache_creation_input_tokens"),
        )

    def ordered(self) -> list[Block]:
        """The blocks in the API's order, joined. Blocks may go on growing afterwards."""
        blocks = [self.blocks[index] for index in sorted(self.blocks)]
        for block in blocks:
            block.join()
        return blocks

    def take(self, event: Mapping[str, Any]) -> Piece | None:
        """Grow by one event. Events of unknown type are passed over."""
        match event.get("type"):
            case "message_start":
                self._start(event.get("message") or {})
            case "content_block_start":
                return self._open(event)
            case "content_block_delta":
                return self._grow(event)
            case "content_block_stop":
                block = self.blocks.get(event.get("index", -1))
                if block is not None:
                    block.join()
                    block.whole = True
            case "message_delta":
                self.stop_reason = (event.get("delta") or {}).get("stop_reason") or self.stop_reason
                self._count(event.get("usage"))
            case "message_stop":
                self.complete = True
        return None

    def _start(self, message: Mapping[str, Any]) -> None:
        self.message_id = message.get("id")
        self.model = message.get("model")
        self._count(message.get("usage"))

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        self.counted.update({name: value for name, value in (usage or {}).items() if value is not None})

    def _open(self, event: Mapping[str, Any]) -> Piece | None:
        block = Block(dict(event.get("content_block") or {}))
        self.blocks[event.get("index", len(self.blocks))] = block
        if block.type in ("tool_use", "server_tool_use"):
            return Piece("tool_use", str(block.content.get("name", "")))
        if block.type == "text" and block.content.get("text"):
            return Piece("text", block.content["text"])
        return None

    def _grow(self, event: Mapping[str, Any]) -> Piece | None:
        block = self.blocks.get(event.get("index", -1))
        delta = event.get("delta") or {}
        if block is None:
            return None
        match delta.get("type"):
            case "text_delta":
                return _append(block, "text", delta, "text")
            case "thinking_delta":
                return _append(block, "thinking", delta, "thinking")
            case "input_json_delta":
                block.json_parts.append(str(delta.get("partial_json", "")))
            case "signature_delta":
                block.content["signature"] = delta.get("signature")
            case "citations_delta":
                block.content["citations"] = [*(block.content.get("citations") or ()), delta.get("citation")]
            case _:
                _merge(block, delta)
        return None


def _append(block: Block, name: str, delta: Mapping[str, Any], kind: PieceKind) -> Piece | None:
    text = str(delta.get(name) or "")
    block.parts.setdefault(name, []).append(text)
    return Piece(kind, text) if text else None


def _merge(block: Block, delta: Mapping[str, Any]) -> None:
    """A delta of unknown type: strings and lists go on what is there, other values replace it."""
    for name, value in delta.items():
        if name == "type":
            continue
        old = block.content.get(name)
        if isinstance(value, str) and isinstance(old, str | None):
            block.parts.setdefault(name, []).append(value)
        elif isinstance(value, list) and isinstance(old, list | None):
            block.content[name] = [*(old or ()), *value]
        else:
            block.content[name] = value
