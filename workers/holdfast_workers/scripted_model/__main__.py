"""`python -m holdfast_workers.scripted_model --port N [--scenarios PATH ...]`: what the embedded stack spawns."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from holdfast_workers.scripted_model.scenario import ScenarioError
from holdfast_workers.scripted_model.server import serve


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripted-model", description="Play scenarios in the Messages API's format."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--scenarios", type=Path, nargs="*", default=[], help="YAML files or directories of them")
    parser.add_argument("--pace", type=float, default=1.0, help="factor on every delay_ms; 0 streams at once")
    options = parser.parse_args()
    try:
        serve(options.host, options.port, options.scenarios, pace=options.pace)
    except (ScenarioError, OSError) as error:
        print(f"scripted model: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
