"""A declaration that could strand an effect, or could not run, is refused where it is made, with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import DeclarationError, Idempotent, ToolContext, tool
from holdfast_sagas import Registry, Saga, SagaDefinition, saga
from tests.sagas.desk_of_one import Given, Got, grant, look, mail, pay, release, reserve, shout, wait_for


async def body(s: Saga, given: Given) -> Got:
    """Do it."""
    return Got()


def local_tool() -> Any:
    @tool(tier="reversible", recovery=Idempotent("1h"), undo=release)
    async def reserve_locally(ctx: ToolContext, what: str) -> str:
        """Reserve something."""
        return what

    return reserve_locally


class Connection:
    """A type without a schema."""


@tool(tier="reversible", recovery=Idempotent("1h"), undo=release)
async def connect(ctx: ToolContext, what: str) -> Connection:
    """Connect to something."""
    return Connection()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a step that has effects and no undo": ({"steps": shout}, "has effects and no undo"),
    "a step that cannot be undone": ({"steps": (reserve, pay)}, "cannot be undone (payments are final)"),
    "a read as pivot": ({"pivot": look}, "is a read and no pivot"),
    "a deferred read": ({"deferred": look}, "is a read and no deferred"),
    "a privileged tool": ({"steps": grant}, "is privileged"),
    "a tool of the workflow": ({"steps": wait_for}, "belongs to a session"),
    "a tool made in a function": ({"steps": local_tool()}, "cannot be found again"),
    "a plain function": ({"steps": print}, "is no declared tool"),
    "a result without a schema": ({"steps": connect}, "has no schema"),
    "no steps at all": ({"steps": ()}, "has no steps"),
    "a name with blanks": ({"name": "Book a trip"}, "a name is lower-case words"),
    "a version in words": ({"version": "first"}, "version `first` is none"),
    "a version that is no text": ({"version": 1}, "write digits and dots in quotes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(case: str) -> None:
    changes, words = REFUSED[case]
    declared: dict[str, Any] = {"name": "a.saga", "version": "1", "steps": reserve, **changes}
    with pytest.raises(DeclarationError) as refused:
        saga(declared.pop("name"), declared.pop("version"), **declared)(body)
    assert words in str(refused.value)
    assert str(refused.value).startswith("saga `")


def no_coroutine(s: Saga, given: Given) -> Got:
    return Got()


async def untyped(s, given):  # type: ignore[no-untyped-def]
    return Got()


async def without_model(s: Saga, given: int) -> Got:
    return Got()


async def without_output(s: Saga, given: Given) -> int:
    return 1


async def with_three(s: Saga, given: Given, more: int) -> Got:
    return Got()


class NoSchema(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    connection: Connection


async def no_schema(s: Saga, given: NoSchema) -> Got:
    return Got()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (no_coroutine, "is no coroutine"),
        (untyped, "its input is no pydantic model"),
        (without_model, "its input is no pydantic model"),
        (without_output, "its output is no pydantic model"),
        (with_three, "takes two parameters"),
        (no_schema, "its input has no schema"),
    ],
)
def test_a_body_that_cannot_run_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        saga("a.saga", "1", steps=reserve)(wrong)


def test_a_body_without_a_source_is_refused() -> None:
    names: dict[str, Any] = {"Saga": Saga, "Given": Given, "Got": Got}
    exec("async def typed_in(s: Saga, given: Given) -> Got: return Got()", names)
    with pytest.raises(DeclarationError, match="source cannot be read"):
        saga("a.saga", "1", steps=reserve)(names["typed_in"])


def test_every_role_takes_the_tools_that_fit_it() -> None:
    made = saga("a.saga", "1.2", steps=(look, reserve, "write_file"), pivot=(pay, reserve), deferred=mail)(body)
    assert made.references == (
        "tests.sagas.desk_of_one:look",
        "tests.sagas.desk_of_one:reserve",
        "write_file",
        "tests.sagas.desk_of_one:pay",
        "tests.sagas.desk_of_one:mail",
    )
    assert (made.input, made.output, made.description) == (Given, Got, "Do it.")


def test_a_tool_given_by_name_is_checked_by_the_worker_that_finds_it() -> None:
    made = saga("a.saga", "1", steps="shout")(body)
    with pytest.raises(DeclarationError, match="`shout` has effects and no undo"):
        made.checked({"shout": shout}.__getitem__)
    saga("a.saga", "1", deferred="mail", steps="reserve")(body).checked(
        {"mail": mail, "reserve": reserve}.__getitem__
    )


def declared(version: str, name: str = "a.saga") -> SagaDefinition:
    return saga(name, version, steps=reserve)(body)


def test_the_newest_version_is_the_highest_number_and_an_unknown_saga_names_the_known() -> None:
    registry = Registry((declared("9"), declared("10"), declared("9.5"), declared("1", "another")))
    assert registry.find("a.saga").version == "10"
    assert registry.find("a.saga", "9").version == "9"
    with pytest.raises(DeclarationError, match=r"known versions: 9, 9\.5, 10"):
        registry.find("a.saga", "11")
    with pytest.raises(DeclarationError, match=r"did you mean `a\.saga`\?; known sagas: a\.saga, another"):
        registry.find("a.sago")
    with pytest.raises(DeclarationError, match="registered twice"):
        Registry((declared("1"), declared("1")))


def test_layout_and_comments_change_no_digest_and_meaning_does() -> None:
    def one() -> Any:
        async def work(s: Saga, given: Given) -> Got:
            await s.step("a", reserve, what="x")
            return Got()

        return work

    def the_same() -> Any:
        async def work(s: Saga, given: Given) -> Got:
            """Do it."""
            # first the reservation
            await s.step(
                "a",
                reserve,
                what="x",
            )

            return Got()

        return work

    def another() -> Any:
        async def work(s: Saga, given: Given) -> Got:
            await s.step("a", reserve, what="y")
            return Got()

        return work

    digests = [saga("a.saga", "1", steps=reserve)(make()).source for make in (one, the_same, another)]
    assert digests[0] == digests[1] != digests[2]
