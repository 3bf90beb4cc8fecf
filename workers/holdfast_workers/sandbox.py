"""The workflow sandbox, in one place: what is passed through, and that nothing else is by accident.

A module that is passed through is loaded once per process instead of once per session, and loses the sandbox's
checks: ruff's banned calls stand in for them. `holdfast_workflows.session` itself stays inside.
"""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

PASSED_THROUGH = (
    "holdfast",
    "holdfast_sagas",
    *(
        f"holdfast_workflows.{name}"
        for name in (
            "alarm",
            "attributes",
            "calls",
            "details",
            "display",
            "handlers",
            "lenient",
            "mailbox",
            "outbox",
            "probing",
            "requests",
            "running",
            "saga_call",
            "saga_display",
            "saga_steps",
            "scheduling",
            "state",
            "unwind_child",
            "unwinding",
        )
    ),
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
