"""What a saga shows of itself in the Temporal UI: its steps, what can be undone, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from temporalio import workflow

from holdfast.saga_contracts import SagaPlan, StepPlan, UnwindInput
from holdfast.states import CallStatus, EffectState, SagaState
from holdfast_sagas.unwinding import label
from holdfast_workflows import attributes


def show_saga(state: SagaState, *, enabled: bool) -> None:
    """Upsert the state, on a server that has the attribute: elsewhere it would fail every workflow task."""
    if enabled:
        workflow.upsert_search_attributes([attributes.SAGA.value_set(state.value)])


def saga_details(
    name: str,
    state: SagaState,
    plan: SagaPlan,
    steps: Mapping[str, tuple[str, CallStatus | None]],
    *,
    pivot: str | None,
    reason: str = "",
) -> str:
    """Args:
    steps: tool and outcome by the step's name; no outcome: it runs.
    pivot: the step that was passed as pivot.
    """
    lines = [f"**{state}** {name}" + (f": {reason}" if reason else "")]
    rows = [f"| {step} | `{tool}` | {status or 'runs'} |" for step, (tool, status) in steps.items()]
    if rows:
        lines.append("\n".join(["| step | tool | |", "| --- | --- | --- |", *rows]))
    if pivot:
        lines.append(f"Past its pivot `{pivot}`: nothing is undone any more")
    else:
        undos = [
            f"{step} `{found.undo}`"
            for step, (tool, status) in steps.items()
            if status is CallStatus.OK and (found := plan.tool(tool)) and found.undo
        ]
        lines.append(f"Can be undone: {', '.join(reversed(undos)) or 'nothing'}")
    return "\n\n".join(lines)


def unwind_details(
    start: UnwindInput, steps: Iterable[StepPlan], state: SagaState = SagaState.UNWINDING, reason: str = ""
) -> str:
    lines = [f"**{state}** {start.saga_id}" + (f": {reason}" if reason else "")]
    if start.reason or start.by:
        lines.append(f"Because: {start.reason or 'not said'}" + (f" (by {start.by})" if start.by else ""))
    rows = [f"| {label(step)} | {_how(step)} | {_undo(step)} |" for step in steps]
    if rows:
        lines.append("\n".join(["| step | | undo |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(lines)


def _how(step: StepPlan) -> str:
    if step.waived:
        return "waived by a person"
    return "in doubt" if step.doubt or step.state is EffectState.UNKNOWN else str(step.state)


def _undo(step: StepPlan) -> str:
    if step.never_undone:
        return f"never: {step.never_undone}"
    name = step.undo or step.undo_if_unknown
    if name is None:
        return ""
    return f"`{name}` {step.undo_state or ''}".strip() + (f": {step.undo_said}" if step.undo_said else "")
