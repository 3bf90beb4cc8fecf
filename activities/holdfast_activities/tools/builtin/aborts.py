"""Giving a request up: the workflow carries it out, by unwinding the request's saga."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from holdfast.ids import canonical
from holdfast.tools import MAX_FACTS_BYTES, tool

Reason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=300,
        description='Why, in one sentence a person may read, e.g. "The payment was declined.".',
    ),
]


def _facts(reason: str) -> Mapping[str, Any]:
    """A long reason in an alphabet of many bytes is cut; it stands whole in the transcript."""
    while len(canonical({"reason": reason})) > MAX_FACTS_BYTES:
        reason = reason[: len(reason) * 3 // 4] + "…"
    return {"reason": reason}


@tool(facts=_facts, handled="workflow")
def abort_request(reason: Reason) -> str:
    """Give the user's request up and undo what it changed so far, newest first. Answers with what was undone.

    Use it when a step failed for good and what was done before makes no sense without it. Do not undo by hand what
    this undoes, and do not use it after an error that another call can put right. Call it alone: other calls that
    change something do not run beside it. Afterwards you can still act, e.g. tell the customer; that is not undone.
    """
    raise RuntimeError("`abort_request` is carried out by the workflow and runs in no activity")
