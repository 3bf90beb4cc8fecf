"""From a request to an answer: which scenario, which of its turns, and what that turn says here.

A pure function of the request body and the scenarios. The position is found by playing the scenario again over the
messages since the user's text, so any server gives the same answer, and `when` sees what it saw then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast_workers.scripted_model.conversation import Results, UserText, blocks, digest, made_id, user_texts
from holdfast_workers.scripted_model.rules import signature
from holdfast_workers.scripted_model.scenario import Call, Scenario, ScenarioError, Turn
from holdfast_workers.scripted_model.templates import Context, RenderError, evaluate, render
from holdfast_workers.scripted_model.tool_choice import Offer, sample_input

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Cue:
    """The user text that started a scenario."""

    scenario: Scenario
    groups: Mapping[str, str | None]
    text: UserText


@dataclass(frozen=True)
class Answer:
    """What the model says, before it is put on the wire."""

    content: list[dict[str, Any]]
    stop_reason: str
    conversation: str
    """Digest of the messages it answers."""
    scenario: Scenario | None = None
    turn: Turn | None = None
    position: int = 0
    """Answers since the user's text, this one included."""
    stop_sequence: str | None = None

    @property
    def has_calls(self) -> bool:
        return any(block["type"] == "tool_use" for block in self.content)


def answer(body: Body, scenarios: Sequence[Scenario]) -> Answer:
    """The answer to a request that obeys the API's rules.

    Raises:
        ScenarioError: when the scenario cannot be played with these results; names scenario, turn and template.
    """
    messages = body["messages"]
    conversation = digest(messages)
    offer = Offer.of(body)
    texts = user_texts(messages)
    cue = find_cue(texts, scenarios)
    if cue is None:
        return _stand_in(scenarios, offer, conversation)
    stage = _Stage(cue, offer, thinks=_thinks(body), said=cue.text.text)
    try:
        stage.replay(messages, {text.index: text.text for text in texts})
        turn = stage.advance()
        if turn is None:
            text = f"The scenario “{cue.scenario.name}” ends here."
            return Answer(_text(text), "end_turn", conversation, cue.scenario, position=stage.position)
        return stage.perform(turn, conversation)
    except RenderError as error:
        raise ScenarioError(f"scenario `{cue.scenario.name}`, answer {stage.position}: {error}") from error


def find_cue(texts: Sequence[UserText], scenarios: Sequence[Scenario]) -> Cue | None:
    """The newest text that starts a scenario, unless a newer one opened a matter of its own."""
    for text in reversed(texts):
        if cue := _match(text, scenarios, which="latest"):
            return cue
        if not text.goes_on:
            break
    return _match(texts[0], scenarios, which="first") if texts else None


def _match(text: UserText, scenarios: Sequence[Scenario], *, which: str) -> Cue | None:
    for scenario in scenarios:
        if scenario.match.text == which and (groups := scenario.match.find(text.text)) is not None:
            return Cue(scenario, groups, text)
    return None


class _Let:
    """The scenario's `let` templates, rendered when asked for."""

    def __init__(self, definitions: Mapping[str, str], context: Context) -> None:
        self._definitions = definitions
        self._context = context

    def __getitem__(self, name: str) -> Any:
        return render(self._definitions[name], self._context)


@dataclass
class _Stage:
    """One scenario being played over one conversation."""

    cue: Cue
    offer: Offer
    thinks: bool
    said: str
    results: Results = field(default_factory=Results)
    position: int = 1
    _turn: int = 0
    _times: int | None = None
    _played: int = 0

    @property
    def context(self) -> dict[str, Any]:
        """What templates may use.

        `match` (named groups), `user_text` (the newest), `results.TOOL` (its last good result, parsed if it is
        JSON), `every.TOOL` (all its results), `outcome.TOOL` (ok, error, denied, cancelled, unknown or
        not_called), `reason.TOOL` (why it was not ok), `let.NAME`, `position` (of this answer, from 1).
        """
        known: dict[str, Any] = {
            "match": self.cue.groups,
            "user_text": self.said,
            "results": self.results.latest,
            "every": self.results.every,
            "outcome": self.results.outcome,
            "reason": self.results.reason,
            "position": self.position,
        }
        known["let"] = _Let(self.cue.scenario.let, known)
        return known

    def replay(self, messages: Sequence[Mapping[str, Any]], texts: Mapping[int, str]) -> None:
        """Play over the messages since the cue, up to the answer that is due."""
        for index in range(self.cue.text.index + 1, len(messages)):
            if messages[index]["role"] == "assistant":
                self._pass(len(blocks(messages[index])))
            self.results.feed(messages[index])
            self.said = texts.get(index, self.said)

    def _pass(self, count: int) -> None:
        """Pass the answer that `count` blocks are; a paused one and its rest may stand in one message."""
        while True:
            turn = self.advance()
            self.position += 1
            if turn is None or turn.stop_reason != "pause_turn":
                return
            count -= len(turn.blocks) + bool(turn.text) + bool(turn.thinking and self.thinks)
            if count <= 0:
                return

    def advance(self) -> Turn | None:
        """The next turn that plays; None when the scenario is over."""
        turns = self.cue.scenario.turns
        while self._turn < len(turns):
            turn = turns[self._turn]
            if self._times is None:
                self._times = self._count(turn)
            if self._played < self._times:
                self._played += 1
                return turn
            self._turn, self._times, self._played = self._turn + 1, None, 0
        return None

    def _count(self, turn: Turn) -> int:
        """How many answers the turn is: none if its `when` does not hold."""
        if turn.when is not None and not evaluate(turn.when, self.context):
            return 0
        times = turn.repeat if isinstance(turn.repeat, int) else int(render(turn.repeat, self.context))
        return times * max(1, len(turn.calls)) if self.offer.one_at_a_time else times

    def perform(self, turn: Turn, conversation: str) -> Answer:
        context = self.context
        calls = self._calls(turn)
        forced = self.offer.forced(call.tool for call in calls)
        if forced is not None:
            calls = [Call(tool=forced, input=sample_input(self.offer.schemas[forced]))]
        if not all(self.offer.allows(call.tool) for call in calls):
            return Answer(
                _text(self._wrap_up(turn, calls, context)),
                "end_turn",
                conversation,
                self.cue.scenario,
                position=self.position,
            )
        content: list[dict[str, Any]] = []
        if turn.thinking and self.thinks:
            thought = str(render(turn.thinking, context)).strip()
            content.append({"type": "thinking", "thinking": thought, "signature": signature(thought)})
        if turn.text and (text := str(render(turn.text, context)).strip()):
            content += _text(text)
        content += render(turn.blocks, context)
        chosen = [call for call in calls if self.offer.chooses(call.tool)]
        content += [
            {
                "type": "tool_use",
                "id": made_id("toolu", conversation, index),
                "name": call.tool,
                "input": render(call.input, context),
            }
            for index, call in enumerate(chosen)
        ]
        return Answer(
            content,
            turn.stop_reason or ("tool_use" if chosen else "end_turn"),
            conversation,
            self.cue.scenario,
            turn,
            self.position,
            turn.stop_sequence,
        )

    def _calls(self, turn: Turn) -> list[Call]:
        if self.offer.one_at_a_time and turn.calls:
            return [turn.calls[(self._played - 1) % len(turn.calls)]]
        return turn.calls

    def _wrap_up(self, turn: Turn, calls: Sequence[Call], context: Context) -> str:
        template = turn.wrap_up or self.cue.scenario.wrap_up
        if template is not None:
            return str(render(template, context)).strip()
        wanted = ", ".join(f"`{call.tool}`" for call in calls)
        done = ", ".join(f"{tool}: {outcome}" for tool, outcome in self.results.outcome.items()) or "nothing"
        return f"I would call {wanted} next, but may not use tools here, so I stop. Done so far: {done}."


def _stand_in(scenarios: Sequence[Scenario], offer: Offer, conversation: str) -> Answer:
    forced = offer.forced(())
    if forced is not None:
        call = {"type": "tool_use", "id": made_id("toolu", conversation, 0), "name": forced}
        return Answer([{**call, "input": sample_input(offer.schemas[forced])}], "tool_use", conversation)
    lines = [
        "I am a scripted stand-in for a language model, not Claude: I only play prepared scenarios, and your "
        "message starts none of them. What I can play:",
        "",
        *(f"- {each.description} Try: “{each.example}”" for each in scenarios),
        "",
        "For real answers, set ANTHROPIC_API_KEY and start again.",
    ]
    return Answer(_text("\n".join(lines)), "end_turn", conversation)


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]


def _thinks(body: Body) -> bool:
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
