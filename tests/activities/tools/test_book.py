"""The tool book: what an agent's names resolve to, and every way that can fail."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import DeclarationError, Tier
from holdfast.config import Config
from holdfast.messages import Principal
from holdfast.states import RecoveryClass
from holdfast_activities.tools.arguments import CheckedCall, Misfit, check_call
from holdfast_activities.tools.book import ToolBook, catalogue_body
from holdfast_activities.tools.findings import check

Books = Callable[..., ToolBook]

PLAIN = '''
def count(text: str, limit: int = 10) -> int:
    """Count the words of `text`, at most `limit`."""
    return len(text.split()[:limit])
'''
DECLARED = '''
from holdfast import Idempotent, Never, ToolContext, tool

@tool(tier="irreversible", recovery=Idempotent(), undo=Never("it undoes itself"))
async def unpay(ctx: ToolContext, payment: str) -> str:
    """Take the payment `payment` back."""
    return ctx.idempotency_key + payment

@tool(tier="reversible", recovery=Idempotent("48h"), undo=unpay, owner="desk")
async def pay(ctx: ToolContext, amount: int) -> dict[str, str]:
    """Pay `amount` cents to the means of payment on file."""
    return {"payment": ctx.idempotency_key}
'''


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """Write modules beside a configuration and open its book."""
    known, path = set(sys.modules), list(sys.path)

    def open_book(modules: dict[str, str], names: list[str], /, **tables: Any) -> ToolBook:
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        config = Config.model_validate({"agents": {"desk": {"tools": names}}, **tables})
        return ToolBook(config, tmp_path)

    yield open_book
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_built_in_declared_and_plain_tools_make_one_catalogue(books: Books) -> None:
    book = books(
        {"book_pays": DECLARED, "book_plain": PLAIN},
        ["read_file", "book_pays:pay", "words"],
        tools={"words": {"run": "book_plain:count", "timeout": "5s", "owner": "ana"}},
    )

    catalogue = book.catalogue("desk", Principal(requested_by="ana", tenant="north"))

    assert [card.name for card in catalogue.tools] == ["read_file", "pay", "words", "read_result", "abort_request"]
    assert [card.name for card in catalogue.compensations] == ["unpay"]
    assert [card.source for card in catalogue.tools[:3]] == [
        "builtin:read_file",
        "book_pays:pay",
        "book_plain:count",
    ]
    pay, words = catalogue.card("pay"), catalogue.card("words")
    assert pay
    assert words
    assert (pay.tier, pay.recovery, pay.undo, pay.owner) == (
        Tier.REVERSIBLE,
        RecoveryClass.IDEMPOTENT,
        "unpay",
        "desk",
    )
    assert (words.tier, words.timeout.total_seconds(), words.owner) == (Tier.READ, 5, "ana")
    assert catalogue.principal.tenant == "north"


def test_the_same_catalogue_has_the_same_digest_and_each_card_finds_its_code(books: Books) -> None:
    book = books({"book_again": DECLARED}, ["book_again:pay", "write_file", "ask_human"])

    first, second = (catalogue_body(book.catalogue("desk")) for _ in range(2))

    assert first == second
    catalogue = book.catalogue("desk")
    for card in (*catalogue.tools, *catalogue.compensations):
        assert book.tool(card).name == card.name
    assert {card.name: card.handled for card in catalogue.tools}["ask_human"] == "workflow"


@pytest.mark.parametrize(
    ("modules", "tools", "tables", "says"),
    [
        ({}, ["read_fiel"], {}, "there is no tool `read_fiel`; did you mean `read_file`?"),
        ({}, ["nowhere.tools:pay"], {}, "there is no module `nowhere`"),
        (
            {"b1": "import missing_library\n"},
            ["b1:pay"],
            {},
            "b1.py:1: ModuleNotFoundError: No module named 'missing",
        ),
        ({"b2": "def broken(:\n"}, ["b2:pay"], {}, "b2.py:1: SyntaxError: invalid syntax"),
        ({"b3": "x = 1\n\nraise ValueError('no\\nway')\n"}, ["b3:pay"], {}, "b3.py:3: ValueError: no way"),
        ({"b4": "import sys\nsys.exit(3)\n"}, ["b4:pay"], {}, "b4.py:2: SystemExit: 3"),
        ({"b5": PLAIN}, ["b5:cuont"], {}, "module `b5` has no `cuont`"),
        ({"b6": PLAIN}, ["b6:count"], {}, "decorate it with `@tool`"),
        (
            {"b7": "number = 3\n"},
            ["x"],
            {"tools": {"x": {"run": "b7:number"}}},
            "`b7:number` is a int, not a function",
        ),
        (
            {"b8": DECLARED, "b9": DECLARED},
            ["b8:pay", "b9:pay"],
            {},
            "two tools are named `pay`: b8:pay and b9:pay",
        ),
        (
            {"c1": PLAIN},
            ["read_file"],
            {"tools": {"read_file": {"run": "c1:count"}}},
            "the name of a built-in tool",
        ),
        ({"c2": PLAIN}, ["w"], {"tools": {"w": {"run": "c2:count", "tier": "reversible"}}}, "names no undo"),
        (
            {"c3": PLAIN},
            ["w"],
            {"tools": {"w": {"run": "c3:count", "tier": "reversible", "undo": "nothing"}}},
            "the undo of `w`: there is no tool `nothing`",
        ),
        (
            {"c4": PLAIN},
            ["w"],
            {"tools": {"w": {"run": "c4:count", "tier": "irreversible", "recovery": "idempotent"}}},
            "needs a `ToolContext` parameter",
        ),
        (
            {"c5": "from holdfast import tool\n\n@tool\ndef f(a):\n    'Do it.'\n"},
            ["c5:f"],
            {},
            "c5.py:3: tool `f`: parameter `a` has no type; annotate it",
        ),
        (
            {"c6": PLAIN},
            ["w"],
            {"tools": {"w": {"run": "c6:count", "inline": True}}},
            "an `inline` tool has a timeout of at most 1 s, and this one 30 s",
        ),
        (
            {
                "c7": "from holdfast import tool\n\n@tool(inline=True, timeout='1s', tier='irreversible')\n"
                "def f(a: int):\n    'Do it.'\n"
            },
            ["c7:f"],
            {},
            "only a read of class Retry may be `inline`",
        ),
    ],
)
def test_a_tool_that_cannot_be_used_is_named_with_the_reason_in_one_line(
    books: Books, modules: dict[str, str], tools: list[str], tables: dict[str, Any], says: str
) -> None:
    book = books(modules, tools, **tables)

    with pytest.raises(DeclarationError) as raised:
        book.catalogue("desk")

    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert book.problems() == [str(raised.value)]


def test_all_broken_tools_are_named_at_once(books: Books) -> None:
    book = books({}, ["one", "two"])

    with pytest.raises(DeclarationError, match=r"`one`.*\n.*`two`"):
        book.catalogue("desk")


def test_an_unknown_agent_lists_the_known_ones(books: Books) -> None:
    with pytest.raises(DeclarationError, match=r"no agent `dseks?`; did you mean `desk`\?; known agents: desk"):
        books({}, []).catalogue("dsek")


def test_more_than_twenty_tools_are_warned_about(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    tools = {f"t{number}": {"run": "d1:count"} for number in range(21)}
    book = books({"d1": PLAIN}, list(tools), tools=tools)

    with caplog.at_level(logging.WARNING, logger="holdfast.tools"):
        book.catalogue("desk")

    assert "has 21 tools" in caplog.text


def test_a_table_replaces_some_settings_of_a_declared_tool(books: Books) -> None:
    table = {"run": "d2:pay", "timeout": "90s", "key_ttl": "1h", "cost_usd": 0.5}
    card = books({"d2": DECLARED}, ["pay_slowly"], tools={"pay_slowly": table}).find("pay_slowly")

    assert (card.timeout.total_seconds(), card.cost_usd, card.owner) == (90, 0.5, "desk")
    assert card.key_ttl is not None
    assert card.key_ttl.total_seconds() == 3600


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "- `text` is missing."),
        ({"text": "a", "limit": "many"}, "- `limit`: Input should be a valid integer"),
        ({"text": "a", "limti": 3}, "- `limti` is no argument of this tool; it takes: `text`, `limit`."),
        (["a"], "takes a JSON object of arguments; this call gave an array"),
        ("a", "this call gave a string"),
        (None, "this call gave null"),
    ],
)
def test_wrong_arguments_are_told_precisely_and_never_quoted(books: Books, given: Any, says: str) -> None:
    book = books({"d3": PLAIN}, ["words"], tools={"words": {"run": "d3:count"}})
    card = book.find("words")

    misfit = check_call(book.tool(card), card, given)

    assert isinstance(misfit, Misfit)
    assert says in misfit.text
    assert "many" not in misfit.text


def test_right_arguments_become_canonical_json_with_their_defaults(books: Books) -> None:
    book = books({"d4": PLAIN}, ["words"], tools={"words": {"run": "d4:count"}})
    card = book.find("words")

    checked = check_call(book.tool(card), card, {"text": "a b"})

    assert isinstance(checked, CheckedCall)
    assert checked.args == b'{"limit":10,"text":"a b"}'


def test_a_number_that_json_has_no_form_for_is_refused(books: Books) -> None:
    text = 'def half(value: float) -> float:\n    """Half of `value`."""\n    return value / 2\n'
    book = books({"d5": text}, ["half"], tools={"half": {"run": "d5:half"}})
    card = book.find("half")

    assert isinstance(check_call(book.tool(card), card, {"value": float("nan")}), Misfit)


def test_secrets_are_hidden_from_the_preview(books: Books) -> None:
    text = 'def log_in(user: str, password: str, data: dict[str, str]) -> str:\n    "Log in."\n    return user\n'
    book = books({"d6": text}, ["log_in"], tools={"log_in": {"run": "d6:log_in"}})
    card = book.find("log_in")

    checked = check_call(
        book.tool(card), card, {"user": "ana", "password": "hunter2", "data": {"api_key": "k-1", "x": "y" * 500}}
    )

    assert isinstance(checked, CheckedCall)
    assert "ana" in checked.preview
    assert "hunter2" not in checked.preview
    assert "k-1" not in checked.preview
    assert len(checked.preview) <= 300


@pytest.mark.parametrize(
    "body", ["raise KeyError(value)", "return {'tier': 'harmless'}", "return {'x': 'y' * 600}"]
)
def test_arguments_that_cannot_be_judged_do_not_run(books: Books, body: str) -> None:
    text = (
        f"from holdfast import tool\n\ndef facts(value):\n    {body}\n\n"
        '@tool(facts=facts)\ndef act(value: str) -> str:\n    """Act on `value`."""\n    return value\n'
    )
    book = books({"d7": text}, ["d7:act"])
    card = book.find("d7:act")

    misfit = check_call(book.tool(card), card, {"value": "x"})
    del sys.modules["d7"]

    assert isinstance(misfit, Misfit)
    assert "cannot judge" in misfit.text


@pytest.mark.parametrize(
    ("text", "level", "says"),
    [
        ("def f(a: int) -> object:\n    'Do.'\n", "warning", "argument `a` is described neither"),
        (
            "def f(a: int):\n    'Do `a` for a person, when asked for it by name.'\n",
            "warning",
            "its result has no type",
        ),
        (
            "class C: pass\ndef f() -> C:\n    'Do it for a person, when asked for it by name.'\n",
            "error",
            "no JSON form",
        ),
        ("def f(*a: int) -> int:\n    'Do.'\n", "error", "no place in a schema"),
        ("def f(a: int) -> int: return a\n", "error", "has no docstring"),
        ("class C: pass\ndef f(a: C) -> int:\n    'Do.'\n", "error", "an argument has no JSON schema"),
    ],
)
def test_check_says_what_is_wrong_with_a_tool(books: Books, text: str, level: str, says: str) -> None:
    book = books({"d8": text}, [], tools={"f": {"run": "d8:f"}})

    findings = check(book, "f")
    del sys.modules["d8"]

    assert [finding.level for finding in findings if says in finding.text] == [level]


def test_check_finds_nothing_wrong_with_the_tools_that_ship(books: Books) -> None:
    book = books({}, [])

    wrong = {name: check(book, name) for name in book.names()}

    operators = {"http_request"}  # any service: only a person can tell what a lost POST did
    assert {name for name, findings in wrong.items() if findings} == operators


def test_only_an_agent_whose_policy_undoes_is_offered_to_give_a_request_up(tmp_path: Path) -> None:
    def offered(*tools: str, on_abort: str = "unwind") -> bool:
        agent = {"tools": tools, "policy": {"on_abort": on_abort}}
        book = ToolBook(config=Config.model_validate({"agents": {"desk": agent}}), directory=tmp_path)
        return book.catalogue("desk").card("abort_request") is not None

    assert offered("write_file")
    assert offered("write_file", on_abort="ask")
    assert not offered("write_file", on_abort="keep")
    assert not offered("read_file")
