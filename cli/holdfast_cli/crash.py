"""Where an error nobody foresaw is written, so that the terminal needs only one line."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path


def log_crash(error: BaseException) -> Path:
    """Append the traceback to the log; returns the log's path.

    The command is named without its arguments, which may hold a message.
    """
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    entry = "".join([f"{datetime.now(UTC).isoformat()} holdfast {command}\n", *traceback.format_exception(error)])
    for directory in (home_logs(), Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}"):
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (directory / "cli.log").open("a") as log:
                log.write(entry)
        except OSError:
            continue
        return directory / "cli.log"
    sys.stderr.write(entry)
    return Path("stderr")


def home_logs() -> Path:
    from holdfast_workers.settings import default_home

    return default_home(os.environ) / "logs"
