"""A scenario: what the scripted model answers, turn by turn, to a user text that matches.

The YAML is documented by these models; unknown fields are refused. Turns play in order; one whose `when` does not
hold is passed over. Texts are templates (see `templates` and `playback.context`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from holdfast_workers.scripted_model.faults import Fault
from holdfast_workers.scripted_model.templates import check_expression, check_templates

SHIPPED = Path(__file__).parent / "scenarios"

Source = Path | str
"""A YAML file, a directory of them, or (as str) YAML itself. A file may hold several documents."""

Expression = Annotated[str, AfterValidator(check_expression)]


class ScenarioError(Exception):
    """A scenario is not as it must be, or cannot be played: names the file or scenario, and the field."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(_Part):
    """One tool_use block."""

    tool: str
    input: dict[str, Any] = {}


class Turn(_Part):
    """One model answer. Its blocks come in the order thinking, text, blocks, calls."""

    when: Expression | None = None
    thinking: str | None = None
    """Sent only if the request turned thinking on, as with a real model."""
    text: str | None = None
    blocks: list[dict[str, Any]] = []
    """Content blocks sent as they stand: server tools, unknown types, ..."""
    calls: list[Call] = []
    wrap_up: str | None = None
    """The final text instead, when the calls' tools may not be used in this turn."""
    stop_reason: str | None = None
    """By default `tool_use` with calls, else `end_turn`.

    `max_tokens` cuts the last call's arguments; give such a turn a text, since a client that drops the call has
    nothing else to send back, and an answer that is not sent back is not counted.
    """
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | None = None
    repeat: int | str = 1
    """How often the turn plays in a row; may be a template."""
    delay_ms: float | None = Field(default=None, ge=0)
    usage: dict[str, int] = {}
    """Numbers that replace the estimated ones."""
    model: str | None = None
    """The model that says it answered, if not the one asked for."""
    faults: list[Fault] = []

    @model_validator(mode="after")
    def _says_something(self) -> Turn:
        check_templates([self.thinking, self.text, self.blocks, self.wrap_up, self.repeat])
        check_templates([call.input for call in self.calls])
        if not (self.text or self.blocks or self.calls or self.stop_reason):
            raise ValueError("a turn needs text, blocks, calls or a stop_reason")
        return self


class Match(_Part):
    """Which user texts start the scenario."""

    regex: str | None = None
    """Searched ignoring case; its named groups are `match.NAME` in templates."""
    phrases: list[str] = []
    """All must occur, ignoring case."""
    text: Literal["latest", "first"] = "latest"
    """`first`: the conversation's first text decides, and later texts that match nothing go on with it."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"regex": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_match(self) -> Match:
        if not self.regex and not self.phrases:
            raise ValueError("needs a regex or phrases")
        try:
            _ = self._pattern
        except re.error as error:
            raise ValueError(f"`{self.regex}` is no regular expression: {error}") from error
        return self

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.regex or "", re.IGNORECASE | re.DOTALL | re.MULTILINE)

    def find(self, text: str) -> dict[str, str | None] | None:
        """The named groups if `text` starts the scenario, else None."""
        lowered = text.lower()
        if not all(phrase.lower() in lowered for phrase in self.phrases):
            return None
        found = self._pattern.search(text)
        return found.groupdict() if found else None


class Scenario(_Part):
    name: str
    description: str
    example: str
    """A message that starts it; offered to people who ask for something else."""
    match: Match
    let: dict[str, str] = {}
    """Named templates, computed when used: `let.NAME`."""
    delay_ms: float = Field(default=0, ge=0)
    """Pause before each streamed chunk, in milliseconds."""
    wrap_up: str | None = None
    turns: list[Turn] = Field(min_length=1)

    @model_validator(mode="after")
    def _holds_together(self) -> Scenario:
        check_templates([self.let, self.wrap_up])
        if self.match.find(self.example) is None:
            raise ValueError(f"the example `{self.example}` does not match")
        return self


def load(sources: Sequence[Source] = (), *, shipped: bool = True) -> tuple[Scenario, ...]:
    """The scenarios of `sources` in their order, then (if `shipped`) those that come with Holdfast.

    Raises:
        ScenarioError: when a source is missing, is not YAML, or does not validate; names file and field.
    """
    given = [scenario for source in sources for scenario in _read(source)]
    names = [scenario.name for scenario in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ScenarioError(f"two scenarios are named `{twice}`; rename one")
    return (
        (*given, *(scenario for scenario in _shipped() if scenario.name not in names)) if shipped else tuple(given)
    )


@lru_cache(maxsize=1)
def _shipped() -> tuple[Scenario, ...]:
    return tuple(_read(SHIPPED))


def _read(source: Source) -> Iterable[Scenario]:
    if isinstance(source, str):
        return _parse(source, name="scenario text")
    if source.is_dir():
        files = sorted({*source.glob("*.yaml"), *source.glob("*.yml")})
        if not files:
            raise ScenarioError(f"{source}: no .yaml file in this directory")
        return [scenario for file in files for scenario in _read(file)]
    try:
        return _parse(source.read_text(encoding="utf-8"), name=str(source))
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{source}: cannot be read: {error}") from error


def _parse(text: str, *, name: str) -> list[Scenario]:
    try:
        documents = list(yaml.load_all(text, Loader=_loader()))
    except yaml.YAMLError as error:
        raise ScenarioError(f"{name}: not YAML: {error}") from error
    scenarios = []
    for number, document in enumerate(documents, start=1):
        try:
            scenarios.append(Scenario.model_validate(document))
        except ValidationError as error:
            where = name if len(documents) == 1 else f"{name}, document {number}"
            problems = "; ".join(f"{_path(item['loc'])}: {item['msg']}" for item in error.errors())
            raise ScenarioError(f"{where}: {problems}") from error
    return scenarios


def _loader() -> Any:
    """libyaml where it is built in (six times faster), else the Python one; both are the safe kind."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(step) for step in location) or "scenario"
