"""The workflow sandbox, in one place: what is passed through, and that nothing else is by accident.

A module that is passed through is loaded once per process instead of once per session and replay, and loses the
sandbox's checks of what it calls: ruff's banned calls stand in for them, and reach every module of ours. Loading
the session's module anew took a quarter of a replay, and more where its bytecode is not kept on disk. None of ours
keeps state at module level, which sessions would share.
"""

from __future__ import annotations

from typing import Any

from temporalio.converter import DataConverter, StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
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


def for_converter(runner: WorkflowRunner, converter: DataConverter) -> WorkflowRunner:
    """The runner for a worker with this converter: quicker where nothing will ask for whom a payload is."""
    asked = converter.payload_codec is not None or converter.external_storage is not None
    if asked or type(runner) is not SandboxedWorkflowRunner:
        return runner
    return WithoutContexts(runner.restrictions, runner.runner_class)


class WithoutContexts(SandboxedWorkflowRunner):
    """A sandbox that is entered for activations alone.

    To hear for whom a codec or an external storage would handle it, the SDK enters one three or four times for
    each payload of an activation, and compiles the code that does so: a quarter of a replay where there is neither.
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _WithoutContexts(super().create_instance(det))


_NOBODY = StorageDriverStoreContext(target=None)


class _WithoutContexts(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance) -> None:
        self._inner = inner

    def activate(self, act: Any) -> Any:
        return self._inner.activate(act)

    def get_serialization_context(self, command_info: Any) -> None:
        return None

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return _NOBODY

    def get_info(self) -> Any:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()
