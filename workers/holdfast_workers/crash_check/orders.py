"""What a check orders its workers to do, and at what pace."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from holdfast.config import EffectSettings
from holdfast.contracts import ExecuteCall
from holdfast.wire import Wire
from holdfast_activities.faults import FaultPoint

EFFECTS = EffectSettings(lease=timedelta(seconds=3), renewal=timedelta(seconds=1))
"""Far shorter than a worker's: here workers die on purpose, and nobody stalls."""


class Order(Wire):
    """One call to execute. `sent` is where its requests are noted, and `crash_at` where its worker dies."""

    request: ExecuteCall
    sent: Path
    crash_at: FaultPoint | None = None
