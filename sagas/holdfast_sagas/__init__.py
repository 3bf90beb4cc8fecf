"""Sagas: what a request did, and how it is undone. Pure: no I/O, no clock, nothing of Temporal.

from holdfast_sagas import Saga, saga

@saga("travel.rebook", "1", steps=(hold_seat, change_booking), pivot=refund, deferred=send_mail)
async def rebook(s: Saga, trip: Rebooking) -> Rebooked: ...
"""

from holdfast_sagas.body import Saga
from holdfast_sagas.declaring import SagaDefinition, saga
from holdfast_sagas.registry import Registry
from holdfast_sagas.steps import StepOptions
from holdfast_sagas.stopping import CheckFailed, SagaMisused, SagaStopped, StepFailed, StepInDoubt

__all__ = [
    "CheckFailed",
    "Registry",
    "Saga",
    "SagaDefinition",
    "SagaMisused",
    "SagaStopped",
    "StepFailed",
    "StepInDoubt",
    "StepOptions",
    "saga",
]
