"""How fast a check goes: leases far shorter than a worker's, since its workers die on purpose and nobody stalls."""

from __future__ import annotations

from datetime import timedelta

from holdfast.config import EffectSettings

EFFECTS = EffectSettings(lease=timedelta(seconds=3), renewal=timedelta(seconds=1))
