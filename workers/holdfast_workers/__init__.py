"""The composition root: settings, the Temporal plugin, telemetry, the client and the embedded stack.

Other people's code imports from here: `from holdfast_workers import Holdfast`. A name is imported at its first use,
so that a command which needs nothing of Temporal does not pay for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast_workers.client import Holdfast
    from holdfast_workers.plugin import HoldfastPlugin
    from holdfast_workers.saga_client import SagaRefused, StartedSaga
    from holdfast_workers.sending import Delivered, MessageRefused, Rejected, SessionEnded, SessionNotFound, Started
    from holdfast_workers.settings import Settings, SettingsError
    from holdfast_workers.temporal import TemporalUnavailable, connect_temporal
    from holdfast_workers.worker import WorkerSettings, build_worker

__all__ = [
    "Delivered",
    "Holdfast",
    "HoldfastPlugin",
    "MessageRefused",
    "Rejected",
    "SagaRefused",
    "SessionEnded",
    "SessionNotFound",
    "Settings",
    "SettingsError",
    "Started",
    "StartedSaga",
    "TemporalUnavailable",
    "WorkerSettings",
    "build_worker",
    "connect_temporal",
]

_MODULES = {
    "Holdfast": "client",
    "HoldfastPlugin": "plugin",
    "SagaRefused": "saga_client",
    "StartedSaga": "saga_client",
    "Settings": "settings",
    "SettingsError": "settings",
    "TemporalUnavailable": "temporal",
    "connect_temporal": "temporal",
    "WorkerSettings": "worker",
    "build_worker": "worker",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'sending')}"), name)
