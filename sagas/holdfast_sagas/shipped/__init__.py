"""Sagas that every worker serves. Their tools are built in, so they are named as the tool book has them."""

from holdfast_sagas.declaring import SagaDefinition
from holdfast_sagas.shipped.files import apply_changes

SHIPPED: tuple[SagaDefinition, ...] = (apply_changes,)
