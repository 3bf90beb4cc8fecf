"""Loading the sagas a worker serves: those that ship, and those its configuration names."""

from __future__ import annotations

from holdfast.config import Config
from holdfast.errors import DeclarationError
from holdfast_activities.tools.book import ToolBook
from holdfast_activities.tools.saga_tools import load_saga
from holdfast_sagas import Registry, SagaDefinition
from holdfast_sagas.shipped import SHIPPED


def load_sagas(config: Config, book: ToolBook) -> Registry:
    """The sagas of this worker, with every tool found and fit for its role.

    Raises:
        DeclarationError: with one line per saga that cannot be served.
    """
    found: list[SagaDefinition] = [*SHIPPED]
    problems: list[str] = []
    for reference in config.sagas:
        try:
            found.append(load_saga(reference))
        except DeclarationError as error:
            problems.append(str(error))
    for each in found:
        problems += _tools_missing(each, book)
    if problems:
        raise DeclarationError("\n".join(problems))
    return Registry(tuple(found))


def _tools_missing(saga: SagaDefinition, book: ToolBook) -> list[str]:
    problems: list[str] = []
    for reference in saga.references:
        try:
            book.undo(book.tool(book.find(reference)))
        except DeclarationError as error:
            problems.append(f"saga `{saga.name}`: {error}")
    if not problems:
        try:
            saga.checked(lambda name: book.tool(book.find(name)))
        except DeclarationError as error:
            problems.append(str(error))
    return problems
