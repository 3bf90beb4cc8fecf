"""Reading `holdfast.toml`: every mistake at once, each with its line and what was expected there."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from holdfast.config import Config, ConfigError

FILE_NAME = "holdfast.toml"

Key = tuple[str, ...]
_HEADER = re.compile(r"^\s*\[\[?(.+?)\]\]?\s*(#.*)?$")
_TOML_PLACE = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


def load_config(path: Path | None) -> Config:
    """Read and check a configuration; None, or a default path without a file, gives the default one.

    Raises:
        ConfigError: with one problem per mistake, as `file:line: what was expected`.
    """
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; `holdfast init` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_config(text, name=str(path))


def parse_config(text: str, *, name: str = FILE_NAME) -> Config:
    """Check the text of a configuration; `name` stands before each problem. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_problem(error, text, name)) from error
    try:
        return Config.model_validate(table, extra="forbid")  # also what a session would read back leniently
    except ValidationError as error:
        places: dict[Key, int] = {}
        for key, line in _places(text):
            places.setdefault(key, line)
        details = sorted(error.errors(), key=lambda detail: _line(_key(detail), places))
        problems = [_problem(detail, places, name) for detail in details]
        raise ConfigError(*problems) from error


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str, name: str) -> str:
    found = _TOML_PLACE.match(str(error))
    if found is None:
        return f"{name}: not TOML: {error}"
    if found["line"] is None:
        return f"{name}:{len(text.splitlines())}: not TOML: {found['what']} at the end of the file"
    return f"{name}:{found['line']}:{found['column']}: not TOML: {found['what']}"


def _key(detail: ErrorDetails) -> Key:
    return tuple(str(part) for part in detail["loc"])


def _problem(detail: ErrorDetails, places: Mapping[Key, int], name: str) -> str:
    key = _key(detail)
    at = f"{name}:{_line(key, places)}"
    parent = ".".join(key[:-1])
    where = f"[{parent}] " if parent else ""
    if detail["type"] == "extra_forbidden":
        return f"{at}: {where}unknown key `{key[-1]}`; {_suggest(key)}"
    if detail["type"] == "missing":
        return f"{at}: {where}`{key[-1]}` is missing{_expectation(detail)}"
    said = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "string_pattern_mismatch":
        said = 'write it as "module:function"'
    if detail["type"] == "value_error":
        return f"{at}: [{'.'.join(key)}] {said}" if isinstance(detail["input"], Mapping) else f"{at}: {where}{said}"
    got = repr(detail["input"])
    got = got if len(got) <= 60 else got[:57] + "..."
    return f"{at}: {where}`{key[-1]}`: {said[:1].lower()}{said[1:]}; got {got}"


def _expectation(detail: ErrorDetails) -> str:
    return ': `run = "module:function"`' if detail["loc"][-1] == "run" else ""


def _suggest(key: Key) -> str:
    known = _known_keys(key[:-1])
    if close := difflib.get_close_matches(key[-1], known, n=1, cutoff=0.5):
        return f"did you mean `{close[0]}`?"
    return f"expected one of {', '.join(f'`{word}`' for word in known)}" if known else "remove it"


def _known_keys(path: Key) -> list[str]:
    """The keys a table may have, by walking the model along `path`."""
    kind: Any = Config
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(part)
            kind = field.annotation if field else None
        elif get_origin(kind) is not None:  # Mapping[str, X], tuple[X, ...], X | None
            kind = next((arg for arg in reversed(get_args(kind)) if arg not in (type(None), ...)), None)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        hidden = {"name"} if path[:1] == ("agents",) and len(path) == 2 else set()
        return [word for word in kind.model_fields if word not in hidden]
    return []


def _line(key: Key, places: Mapping[Key, int]) -> int:
    """The line of the key itself, else of the nearest table around it."""
    for length in range(len(key), 0, -1):
        if key[:length] in places:
            return places[key[:length]]
    return 1


def _places(text: str) -> Iterator[tuple[Key, int]]:
    """Yield (full key, line) of every table header and every assignment of a valid TOML text."""
    table: Key = ()
    statement = ""
    start = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if not statement and (header := _HEADER.match(line)) and (found := _parse(f"[{header[1]}]")) is not None:
            table = _path(found)
            yield from ((key, number) for key in _prefixes((), table))
            continue
        start = number if not statement else start
        statement += line + "\n"
        parsed = _parse(statement)  # an unfinished string or array does not parse yet
        if parsed is None:
            continue
        if parsed:
            yield from ((key, start) for key in _prefixes(table, _path(parsed)))
        statement = ""


def _parse(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _path(parsed: Mapping[str, Any]) -> Key:
    """The dotted key that a single header or assignment opens; an inline table ends it."""
    path: list[str] = []
    here: Any = parsed
    while isinstance(here, Mapping) and len(here) == 1:
        name = next(iter(here))
        path.append(name)
        here = here[name]
    return tuple(path)


def _prefixes(table: Key, path: Key) -> Iterator[Key]:
    return ((*table, *path[:length]) for length in range(1, len(path) + 1))
