"""What can go wrong with the ledger, in one tree, and the one place where the driver's errors become it.

    LedgerError
    ├── LedgerUnavailable       wait and try again
    ├── LedgerConflict          the same fact with another content
    ├── SessionIdReused
    ├── SessionMissing
    ├── EffectMissing
    ├── SagaMissing
    ├── FactRefused
    ├── AppendOnly
    ├── SchemaMismatch
    ├── WrongTemporal
    ├── MigrationRefused
    ├── AmbiguousId
    ├── KeyMissing              nobody gave this process the master key
    ├── ContentErased
    ├── ContentAltered
    ├── SealedOtherwise
    ├── ErasureRefused
    ├── CheckpointRefused
    ├── ArchiveRefused
    ├── SessionArchived
    ├── BadKey                  of checkpoints
    └── BadExport

A class's docstring is its default message. No message holds a DSN, an argument or a body.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from holdfast.errors import HoldfastError


class LedgerError(HoldfastError):
    """The ledger refused."""


class LedgerUnavailable(LedgerError):
    """Postgres cannot be reached; nothing was lost, and the same call can be made again."""

    code = "unavailable"


class LedgerConflict(LedgerError):
    """The same fact was recorded before with another content."""

    code = "conflict"


class SessionIdReused(LedgerError):
    """This session id was used before for another start; ids are unique for ever."""

    code = "id_reused"


class SessionMissing(LedgerError):
    """There is no such session."""

    code = "not_found"


class EffectMissing(LedgerError):
    """There is no such effect."""

    code = "not_found"


class SagaMissing(LedgerError):
    """There is no such saga."""

    code = "not_found"


class FactRefused(LedgerError):
    """This fact may only come from the ledger itself."""


class AppendOnly(LedgerError):
    """The ledger is append-only."""


class SchemaMismatch(LedgerError):
    """The database's schema does not fit this code; run `holdfast db migrate`, or upgrade Holdfast."""

    code = "schema"


class WrongTemporal(LedgerError):
    """This ledger belongs to another Temporal cluster or namespace."""

    code = "wrong_temporal"


class MigrationRefused(LedgerError):
    """The database cannot be migrated."""


class AmbiguousId(LedgerError):
    """More than one id begins like this; give more of it."""

    code = "ambiguous"


class KeyMissing(LedgerError):
    """The contents are encrypted, and this process has no master key (HOLDFAST_MASTER_KEYS)."""

    code = "key_missing"


class ContentErased(LedgerError):
    """The session's contents were erased."""

    code = "erased"


class ContentAltered(LedgerError):
    """A sealed content does not open with its session's key: it was altered, or moved."""


class SealedOtherwise(LedgerError):
    """The session's contents are stored under another key, or in clear where they should not be."""


class ErasureRefused(LedgerError):
    """The session's contents cannot be erased."""

    code = "not_erased"


class CheckpointRefused(LedgerError):
    """This checkpoint does not follow from the ledger."""


class ArchiveRefused(LedgerError):
    """This session cannot be archived."""

    code = "state"


class SessionArchived(LedgerError):
    """The session's record is in an archive's file."""

    code = "archived"


class BadKey(LedgerError):
    """This is no key for checkpoints."""

    code = "invalid"


class BadExport(LedgerError):
    """This file is no export of a ledger."""

    code = "invalid"


BY_SQLSTATE: dict[str, type[LedgerError]] = {
    "HF001": LedgerConflict,
    "HF002": SessionIdReused,
    "HF003": SessionMissing,
    "HF005": AppendOnly,
    "HF006": FactRefused,
    "HF007": EffectMissing,
    "HF008": SealedOtherwise,
    "HF009": ErasureRefused,
    "HF010": CheckpointRefused,
    "HF011": ArchiveRefused,
    "3F000": SchemaMismatch,  # no schema
    "42P01": SchemaMismatch,  # no table
    "42703": SchemaMismatch,  # no column
    "42883": SchemaMismatch,  # no function
}

# Classes of SQLSTATE that say nothing about the statement, only about the server just now: connection lost, login
# refused, out of resources, not accepting connections, locked or stopped by an operator, shutdown or failover,
# read-only standby, system error.
UNAVAILABLE = ("08", "28", "3D", "53", "55", "57", "58", "25006")

RETRYABLE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn what the driver raises into this tree. `where` names the server without credentials."""
    try:
        yield
    except RETRYABLE:
        raise
    except asyncpg.PostgresError as error:
        raise _of_postgres(error, where) from error
    except (TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, ssl.SSLError) as error:
        # InternalClientError: the driver lost track of a connection that broke under it.
        what = str(error) or type(error).__name__
        raise LedgerUnavailable(
            f"Postgres at {where} cannot be reached ({what}); it is safe to try again."
        ) from error


def _of_postgres(error: asyncpg.PostgresError, where: str) -> LedgerError:
    state = error.sqlstate or ""
    said = error.args[0] if error.args else type(error).__name__
    if state.startswith(UNAVAILABLE):
        return LedgerUnavailable(f"Postgres at {where} is not available ({said}); it is safe to try again.")
    kind = BY_SQLSTATE.get(state)
    if kind is SchemaMismatch:
        return SchemaMismatch(
            f"The schema in Postgres at {where} does not fit this code ({said}): `holdfast db status`."
        )
    if kind is not None:
        return kind(f"{said[:1].upper()}{said[1:]}.")
    return LedgerError(f"Postgres at {where} refused: {said} ({state}).")
