"""`python -m holdfast_workers.demo HOME`: keeps the demo's processes beside the stack of HOME until either ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast_workers.demo.parts import plan
from holdfast_workers.settings import Settings
from holdfast_workers.stack.companion import Companion
from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.runtime import read_runtime


def main(home: Path) -> None:
    settings = Settings.load(os.environ, home=home)
    stack = read_runtime(home)
    if stack is None:
        raise StackError(f"No stack runs in `{home}`; `holdfast up` starts it.")
    asyncio.run(Companion(plan(home, settings.model, os.environ, stack.addresses)).run())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except HoldfastError as error:
        sys.exit(str(error))
