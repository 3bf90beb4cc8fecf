"""What a worker gives to every attempt at a call."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx2

from holdfast.guards import LEASE, RENEWAL
from holdfast_activities.calls.report import CallReport
from holdfast_activities.faults import FaultPoints
from holdfast_activities.redaction import Redactor
from holdfast_activities.resources import Resources
from holdfast_activities.tools.book import ToolBook
from holdfast_ledger.store import Ledger


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the worker gives to every attempt."""

    ledger: Ledger
    book: ToolBook
    resources: Resources
    read_secret: Callable[[str], str]
    redactor: Redactor
    transport: httpx2.AsyncBaseTransport
    threads: ThreadPoolExecutor
    observe: Callable[[CallReport], None]
    faults: FaultPoints
    now: Callable[[], datetime]
    """For what is told to people and tools; no lease is judged by it."""
    worker: str = ""
    """Stands in the ledger's intent entries."""
    lease: timedelta = LEASE
    renewal: timedelta = RENEWAL
