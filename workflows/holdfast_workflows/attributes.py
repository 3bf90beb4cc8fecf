"""The typed search attributes a session shows; optional, so a server without them loses nothing but search."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey

STATUS = SearchAttributeKey.for_keyword("HoldfastStatus")
AGENT = SearchAttributeKey.for_keyword("HoldfastAgent")
TENANT = SearchAttributeKey.for_keyword("HoldfastTenant")
PENDING_APPROVALS = SearchAttributeKey.for_int("HoldfastPendingApprovals")
SAGA = SearchAttributeKey.for_keyword("HoldfastSaga")
"""State of the saga that a `SagaRun` or an `Unwind` is about."""
ALL = (STATUS, AGENT, TENANT, PENDING_APPROVALS, SAGA)
