"""Whether this build still has the code that open sagas of its task queue need, asked before a worker serves.

What is missing is named saga by saga. A person may waive each, so that one old saga does not block a hot-fix; until
a build has its code again, such a saga waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from holdfast.catalogue import Catalogue, ToolCard
from holdfast.errors import DeclarationError, HoldfastError
from holdfast_activities.tools.book import ToolBook
from holdfast_ledger.deploys import NeededCode, needed_code
from holdfast_ledger.store import Ledger
from holdfast_sagas import Registry

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Missing:
    """One thing that an open saga needs and this build lacks. `why` says what is here instead."""

    saga_id: str
    session_id: str
    state: str
    code: str
    why: str


class BuildLacksCode(HoldfastError):
    """This build lacks code of open sagas."""

    code = "build"

    def __init__(self, missing: Iterable[Missing]) -> None:
        lines = [f"- saga {one.saga_id} ({one.state}) needs {one.code}: {one.why}" for one in missing]
        more = [f"- ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        super().__init__(
            "\n".join(
                [
                    "This build lacks code of open sagas, so they could not be undone:",
                    *lines[:SHOWN],
                    *more,
                    "Bring the code back, or waive each: holdfast worker check --waive SAGA --reason TEXT",
                ]
            )
        )


async def missing_code(ledger: Ledger, book: ToolBook, sagas: Registry, task_queue: str) -> tuple[Missing, ...]:
    """What open sagas of this task queue need and this build lacks, oldest saga first.

    Raises `LedgerUnavailable`.
    """
    missing: list[Missing] = []
    for needed in await needed_code(ledger.database, task_queue):
        catalogue = await ledger.catalogue(needed.catalogue_digest) if needed.catalogue_digest else None
        for code, why in _lacks(needed, catalogue, book, sagas):
            found = Missing(
                saga_id=needed.saga_id, session_id=needed.session_id, state=needed.state, code=code, why=why
            )
            if found not in missing:
                missing.append(found)
    return tuple(missing)


def _lacks(
    needed: NeededCode, catalogue: Catalogue | None, book: ToolBook, sagas: Registry
) -> Iterator[tuple[str, str]]:
    if needed.name is not None and (why := _body_lacks(needed, sagas)):
        yield f"the body of `{needed.name}` version {needed.version}", why
    if needed.undo_tool is not None:
        card = (
            next((each for each in catalogue.compensations if each.name == needed.undo_tool), None)
            if catalogue
            else None
        )
        if why := _tool_lacks(card, needed.undo_version, book):
            yield f"the undo `{needed.undo_tool}` version {needed.undo_version}", why
    if needed.tool is not None:
        card = catalogue.card(needed.tool) if catalogue else None
        if why := _tool_lacks(card, card.version if card else None, book):
            yield f"the tool `{needed.tool}`, to say whether it happened", why


def _body_lacks(needed: NeededCode, sagas: Registry) -> str | None:
    try:
        found = sagas.find(str(needed.name), needed.version)
    except DeclarationError as error:
        return str(error)
    return None if found.source == needed.source else "its body was changed under this version"


def _tool_lacks(card: ToolCard | None, version: str | None, book: ToolBook) -> str | None:
    if card is None:
        return "the catalogue it was opened with does not have it"
    try:
        declared = book.tool(card)
    except DeclarationError as error:
        return str(error)
    return None if declared.version == version else f"here it is version {declared.version}"
