"""Which schema this code carries, and whether a database's schema fits it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import asyncpg

from holdfast_ledger.errors import SchemaMismatch

_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")
_COMPATIBLE = re.compile(r"\A-- compatible from: (\d+)\n")


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One numbered file of `schema/`; never edited once released.

    `compatible_from`: the oldest code version (its newest migration) that still runs on the schema after it.
    """

    version: int
    name: str
    sql: str
    compatible_from: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations of this code, oldest first."""
    found = []
    for file in files("holdfast_ledger").joinpath("schema").iterdir():
        if match := _FILE.match(file.name):
            sql = file.read_text(encoding="utf-8")
            compatible = _COMPATIBLE.match(sql)
            if compatible is None:
                raise ValueError(f"{file.name} must begin with '-- compatible from: VERSION'")
            found.append(
                Migration(version=int(match[1]), name=match[2], sql=sql, compatible_from=int(compatible[1]))
            )
    return tuple(sorted(found, key=lambda migration: migration.version))


def bootstrap() -> str:
    """The SQL that runs before the migrations."""
    return files("holdfast_ledger").joinpath("schema", "bootstrap.sql").read_text(encoding="utf-8")


def check(applied: Sequence[asyncpg.Record], where: str) -> None:
    """Raises `SchemaMismatch` where this code cannot run on a schema with these migrations applied."""
    wanted = migrations()[-1].version
    found = max((row["version"] for row in applied), default=0)
    if found < wanted:
        raise SchemaMismatch(
            f"The schema in Postgres at {where} is version {found} and this code needs {wanted}: run "
            "`holdfast db migrate`."
        )
    needs = max(row["compatible_from"] for row in applied)
    if needs > wanted:
        raise SchemaMismatch(
            f"The schema in Postgres at {where} is version {found}, too new for this code, which knows {wanted}: "
            f"upgrade Holdfast to a version with schema {needs} or later."
        )
