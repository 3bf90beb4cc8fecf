"""The sagas a worker serves, found by name and version.

Temporal makes workflow objects by itself, so the one way for `SagaRun` to reach its worker's sagas is through its
process: a worker calls `serve` when it starts, before it takes its first task.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.errors import DeclarationError
from holdfast_sagas.declaring import SagaDefinition


@dataclass(frozen=True)
class Registry:
    """Definitions by (name, version)."""

    sagas: tuple[SagaDefinition, ...] = ()

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for each in self.sagas:
            if (each.name, each.version) in seen:
                raise DeclarationError(f"saga `{each.name}` version {each.version} is registered twice")
            seen.add((each.name, each.version))

    def find(self, name: str, version: str | None = None) -> SagaDefinition:
        """The saga of this version, else the newest. Raises DeclarationError naming what there is."""
        versions = {each.version: each for each in self.sagas if each.name == name}
        if not versions:
            close = difflib.get_close_matches(name, self.names, n=1)
            raise DeclarationError(
                f"this worker has no saga `{name}`{f', did you mean `{close[0]}`?' if close else ''}; "
                f"known sagas: {', '.join(self.names) or 'none'}"
            )
        if version is None:
            return versions[max(versions, key=_order)]
        if version not in versions:
            known = ", ".join(sorted(versions, key=_order))
            raise DeclarationError(
                f"this worker has no version {version} of saga `{name}`; known versions: {known}"
            )
        return versions[version]

    @property
    def names(self) -> list[str]:
        return sorted({each.name for each in self.sagas})

    def with_all(self, sagas: Iterable[SagaDefinition]) -> Registry:
        """Also these, in place of those of the same name and version."""
        found = {(each.name, each.version): each for each in (*self.sagas, *sagas)}
        return Registry(tuple(found.values()))


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


_served = Registry()


def serve(registry: Registry) -> None:
    """Let this process's `SagaRun`s find these sagas, beside those of other workers in the process."""
    global _served
    _served = _served.with_all(registry.sagas)


def served() -> Registry:
    return _served
