"""A document as a script: its fenced blocks, in their order, do what the reader would do.

    ```bash      is run; a variable set in one block is there in the next
    ```python    is run by a Python of its own
    ```toml      is read as a holdfast.toml
    ```sh        in docs/cli.md alone, which is made from the commands' own examples: tests/cli parses them
    ```text, json, yaml, mermaid, sql    are shown and not run

A comment above a block changes that:

    <!-- test: file NAME -->            its text is written to NAME, as the reader is told to do
    <!-- test: exits N -->              the block ends with exit code N
    <!-- test: docker -->               Docker is not everywhere: its syntax is checked, and what it names
    <!-- test: see tests/x.py::test -->   that test does the same
    <!-- test: sketch -->               Python that leaves something out: it is compiled
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("text", "json", "yaml", "mermaid", "sql")
RUN = ("bash", "python", "toml")
EXAMPLES = (Path("docs/cli.md"), "sh")
# A process that used a Temporal client can abort while Python exits (temporalio/sdk-python issue 300).
LEAVE = "import os, sys; sys.stdout.flush(); os._exit(0)\n"
BLOCK = re.compile(
    r"(?:^ *<!-- test: (?P<marker>[^\n]+?) -->\n\n?)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block; `place` is `file:line`."""

    place: str
    language: str
    text: str
    marker: str = ""

    @property
    def verb(self) -> str:
        return self.marker.partition(" ")[0]

    @property
    def argument(self) -> str:
        return self.marker.partition(" ")[2]


def documents() -> list[Path]:
    """Every document of the repository, relative to its root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT) for path in found]


def blocks(document: Path) -> list[Block]:
    text = (ROOT / document).read_text()
    return [
        Block(
            place=f"{document}:{text.count(chr(10), 0, found.start('text'))}",
            language=found["language"],
            text=_dedent(found["text"], found["indent"]),
            marker=found["marker"] or "",
        )
        for found in BLOCK.finditer(text)
    ]


def _dedent(text: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def script(document: Path) -> str:
    """What a reader of the document does, as one bash script; empty where there is nothing to do."""
    steps = [step for block in blocks(document) if (step := _step(block))]
    if not steps:
        return ""
    return "\n".join(["set -euo pipefail", "trap 'echo \"failed: $HERE\" >&2' ERR", *steps])


def _step(block: Block) -> str:
    here = f"HERE={shlex.quote(block.place)}\n"
    if block.verb == "file":
        return here + _heredoc(f"cat > {shlex.quote(block.argument)}", block.text)
    if block.verb in ("docker", "see", "sketch") or block.language not in ("bash", "python"):
        return ""
    if block.language == "python":
        return here + _heredoc("python -", block.text + LEAVE)
    if block.verb == "exits":
        return f"{here}code=0; (\n{block.text}) || code=$?; test $code -eq {int(block.argument)}\n"
    return here + block.text


def _heredoc(command: str, text: str) -> str:
    return f"{command} <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"
