"""Tools the workflow carries out itself: waiting for a person's answer, or for a time.

No activity runs and no worker is needed meanwhile. What the workflow must know stands in the call's facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from holdfast.errors import ToolRefused
from holdfast.ids import canonical
from holdfast.tools import MAX_FACTS_BYTES, tool

MAX_WAIT_SECONDS = 30 * 24 * 3600

Question = Annotated[str, Field(min_length=1, max_length=2000, description="One question, complete in itself.")]
Options = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]],
    Field(max_length=10, description='Answers to choose from, e.g. ["refund", "rebook"]; empty for a free answer.'),
]
Time = Annotated[AwareDatetime, Field(description='When to go on, with its zone, e.g. "2030-03-13T07:30:00Z".')]
Seconds = Annotated[int, Field(ge=1, le=MAX_WAIT_SECONDS, description="How long to wait, e.g. 900.")]


def _question_facts(question: str, options: Sequence[str] = ()) -> Mapping[str, Any]:
    """What a person is shown at once; a long question is cut here and stands whole in the transcript."""
    facts: dict[str, Any] = {"question": question, "options": list(options)}
    if len(canonical(facts)) > MAX_FACTS_BYTES:
        facts["options"] = []
    while len(canonical(facts)) > MAX_FACTS_BYTES:
        facts["question"] = facts["question"][: len(facts["question"]) * 3 // 4] + "…"
    return facts


@tool(facts=_question_facts, handled="workflow")
def ask_human(question: Question, options: Options = []) -> str:  # noqa: B006 - copied by pydantic, never changed
    """Ask the person this session works for, and wait for the answer, which may take days.

    Use it when a decision is theirs, or when what you need stands nowhere you can read. Do not use it for what a
    tool can tell, nor to get an approval: calls that need one ask by themselves. Ask one thing at a time.
    """
    raise _by_workflow("ask_human")


def _wait_facts(time: AwareDatetime | None = None, seconds: int | None = None) -> Mapping[str, Any]:
    if (time is None) == (seconds is None):
        raise ToolRefused("`wait_until` takes exactly one of `time` and `seconds`")
    return {"until": time.isoformat()} if time is not None else {"seconds": seconds}


@tool(facts=_wait_facts, handled="workflow")
def wait_until(time: Time | None = None, seconds: Seconds | None = None) -> str:
    """Pause the session until a time, or for a number of seconds; give exactly one of the two.

    Use it when something must have happened elsewhere first, e.g. a batch that runs at night. Nothing runs
    meanwhile. Do not use it to wait for a person: `ask_human` does that.
    """
    raise _by_workflow("wait_until")


def _by_workflow(name: str) -> Exception:
    return RuntimeError(f"`{name}` is carried out by the workflow and runs in no activity")
