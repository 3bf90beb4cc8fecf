"""Lengths of time as people write them: `"30s"`, `"15m"`, `"24h"`, ISO 8601, or a number of seconds.

Every duration of a setting, a declaration or a TOML table has the type `Duration`, so they all read alike.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

from holdfast.errors import DeclarationError

_SHORT = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_iso: TypeAdapter[timedelta] = TypeAdapter(timedelta)


def duration(value: timedelta | str | int | float) -> timedelta:
    """Read `"90s"`, `"15m"`, `"24h"`, ISO 8601 or a number of seconds.

    Raises:
        DeclarationError: when it is none of these.
    """
    try:
        return _read(value)
    except ValueError as error:
        raise DeclarationError(str(error)) from error


def _read(value: Any) -> timedelta:
    if isinstance(value, str) and (short := _SHORT.match(value.strip())):
        return timedelta(**{_UNITS[short[2]]: float(short[1])})
    try:
        return _iso.validate_python(value)
    except ValueError as error:
        raise ValueError(f'`{value}` is no duration; write "30s", "15m", "24h" or seconds') from error


Duration = Annotated[timedelta, BeforeValidator(_read)]
"""A `timedelta` field that reads every form of `duration`."""
