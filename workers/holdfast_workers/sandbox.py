"""The workflow sandbox, in one place: what is passed through, and that nothing else is by accident.

A module that is passed through is loaded once per process instead of once per session and replay, and loses the
sandbox's checks of what it calls: ruff's banned calls stand in for them, and reach every module of ours. Loading
the session's module anew took a quarter of a replay, and more where its bytecode is not kept on disk. None of ours
keeps state at module level, which sessions would share.
"""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

PASSED_THROUGH = (
    "holdfast",
    "holdfast_sagas",
    "holdfast_workflows",
    "pydantic_core",
    "annotated_types",
    "typing_inspection",
)


def sandboxed_runner(restrictions: SandboxRestrictions = SandboxRestrictions.default) -> SandboxedWorkflowRunner:
    """The runner of every worker and replayer, production and test alike."""
    return SandboxedWorkflowRunner(
        restrictions=restrictions.with_passthrough_modules(*PASSED_THROUGH).with_import_notification_policy(
            SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
            | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
        )
    )
