"""What the sessions are to do: scripts for the model, drawn from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

FINAL = ("send_notice", "pay_refund", "post_letter", "keep_note")
REVERSIBLE = ("reserve", "reserve_asked", "reserve_blindly")
WRITES = (*FINAL, *REVERSIBLE)
UNDO = "give_back"
SHAPES = 10
REVERSIBLE_EVERY = 5
"""Of so many scripts one writes only what can be undone."""
REVERSIBLE_WRITES = 5


@dataclass(frozen=True)
class Shape:
    """One script: the calls of each turn, by tool."""

    number: int
    turns: tuple[tuple[str, ...], ...]

    @property
    def reversible(self) -> bool:
        """Whether everything it writes can be undone."""
        return all(tool in REVERSIBLE or tool not in WRITES for turn in self.turns for tool in turn)

    @property
    def writes(self) -> int:
        return sum(tool in WRITES for turn in self.turns for tool in turn)

    def message(self, session: int, booking: str) -> str:
        """What starts a session that follows this script."""
        return f"chaos shape {self.number} as S-{session} with {booking}"


def draw(seed: int) -> list[Shape]:
    """The scripts of a run. In each every final write occurs, or every reversible one, alone or beside others."""
    choice = random.Random(f"shapes {seed}")
    return [_shape(number, choice) for number in range(SHAPES)]


def _shape(number: int, choice: random.Random) -> Shape:
    if number % REVERSIBLE_EVERY == REVERSIBLE_EVERY - 1:
        more = choice.choices(REVERSIBLE, k=REVERSIBLE_WRITES - len(REVERSIBLE))
        calls = [*REVERSIBLE, *more, "look_up", "look_up"]
    else:
        calls = [*FINAL, choice.choice(FINAL), "look_up", "look_up"]
    choice.shuffle(calls)
    turns = []
    while calls:
        size = choice.choice((1, 1, 2, 3))
        turns.append(tuple(calls[:size]))
        calls = calls[size:]
    return Shape(number, tuple(turns))


def scenarios(shapes: list[Shape]) -> str:
    """The scripts as the scripted model plays them."""
    import yaml

    return yaml.safe_dump_all([_scenario(shape) for shape in shapes], sort_keys=False)


def _scenario(shape: Shape) -> dict[str, object]:
    turns: list[dict[str, object]] = [
        {"text": f"Step {at}.", "calls": [_call(tool, f"{at}{index}") for index, tool in enumerate(turn)]}
        for at, turn in enumerate(shape.turns, start=1)
    ]
    # What the session believes was done, in its own last words.
    writes = [tool for tool in WRITES if any(tool in turn for turn in shape.turns)]
    results = " ".join(f"{{% for done in every.{tool} or [] %}}{{{{ done }}}} {{% endfor %}}" for tool in writes)
    return {
        "name": f"chaos-{shape.number}",
        "description": "One session of a chaos run.",
        "example": shape.message(1, "LOAD-1"),
        "match": rf"^chaos shape {shape.number} as (?P<session>\S+) with (?P<booking>\S+)$",
        "delay_ms": 5,
        "turns": [*turns, {"text": f"Done: {results}"}],
    }


def _call(tool: str, place: str) -> dict[str, object]:
    booking = "{{ match.booking }}"
    intent = "{{ match.session }}-" + place
    match tool:
        case "look_up":
            return {"tool": tool, "input": {"booking_id": booking}}
        case "pay_refund" | "reserve" | "reserve_asked" | "reserve_blindly":
            return {"tool": tool, "input": {"booking_id": booking, "intent": intent}}
        case _:
            return {"tool": tool, "input": {"intent": intent}}
