"""The typed search attributes a session shows; optional, so a server without them loses nothing but search."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey

STATUS = SearchAttributeKey.for_keyword("HoldfastStatus")
AGENT = SearchAttributeKey.for_keyword("HoldfastAgent")
TENANT = SearchAttributeKey.for_keyword("HoldfastTenant")
PENDING_APPROVALS = SearchAttributeKey.for_int("HoldfastPendingApprovals")
ALL = (STATUS, AGENT, TENANT, PENDING_APPROVALS)
