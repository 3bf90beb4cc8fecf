"""What a service offers: one `Operation` per endpoint, one frozen model for its arguments.

An operation's arguments are its path, query and body parameters together, so that a digest over them
names one logical action, whatever way they travelled.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

Json: TypeAlias = dict[str, Any]


class Arguments(BaseModel):
    """The parameters of one operation."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One endpoint. `run` gets a connection inside a transaction, and raises `Refusal` to say no."""

    kind: str
    method: Literal["GET", "POST"]
    path: str
    arguments: type[Arguments]
    run: Callable[[sqlite3.Connection, Any], Json]  # Any: the model in `arguments`; a tuple mixes them

    @property
    def reads_only(self) -> bool:
        return self.method == "GET"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to carry out, and who sent it with which headers."""

    operation: Operation
    path: str
    arguments: Arguments
    key: str | None
    who: str | None
    traceparent: str | None

    @property
    def canonical_arguments(self) -> str:
        return json.dumps(self.arguments.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def arguments_digest(self) -> str:
        return hashlib.sha256(self.canonical_arguments.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Names the logical action: the same key with another fingerprint is a caller's mistake."""
        return f"{self.operation.kind}:{self.arguments_digest}"


class Refusal(Exception):
    """The service understood the request and will not do it; nothing was changed."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def body(self) -> Json:
        return {"error": {"code": self.code, "message": str(self)}}


def find(db: sqlite3.Connection, query: str, identifier: str, *, what: str) -> sqlite3.Row:
    """The one row `query` selects for `identifier`; a missing one is a 404 that names it."""
    row: sqlite3.Row | None = db.execute(query, (identifier,)).fetchone()
    if row is None:
        raise Refusal(404, "not_found", f"there is no {what} `{identifier}`")
    return row
