"""The outermost frame of the command: runs it, turns every error into words and a code, leaves the process.

A person's mistake never shows a traceback. An error nobody foresaw is one line and the place of its log.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from holdfast_cli.exits import Exit, Failure, exit_for
from holdfast_cli.root import cli


def main() -> NoReturn:
    """Run the command line of this process and leave with its exit code.

    The only `os._exit` of the product. A process that used a Temporal client can abort while Python exits
    (`PyGILState_Release`, 5 to 10 % of runs on 3.11; temporalio/sdk-python issue 300), and the exit code would be
    the abort's. So everything is stopped and flushed inside `run` (telemetry where a command's
    span ends), and nothing is left to atexit.
    """
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        # The reader of a pipe may be gone (`holdfast show ... | head`): there is nobody left to tell.
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line in this process; returns its exit code."""
    try:
        code = cli.main(list(arguments), prog_name="holdfast", standalone_mode=False)
    except click.exceptions.Abort:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return Exit.DONE
    except Exception as error:
        return explain(error, debug="--debug" in arguments)
    return code if isinstance(code, int) else Exit.DONE


def explain(error: Exception, *, debug: bool) -> int:
    """Say what went wrong; returns the exit code. Our own errors are words already, others go to the log."""
    expected = expected_exit(error)
    if debug:
        import traceback

        traceback.print_exception(error)
    if expected is not None:
        click.echo(f"Error: {error}", err=True)
        return expected
    from holdfast_cli.crash import log_crash

    log = log_crash(error)
    said = str(error).strip().partition("\n")[0][:300]
    click.echo(f"Error: unexpected {type(error).__name__}: {said}", err=True)
    click.echo(f"The whole of it is in {log}; `--debug` shows it here.", err=True)
    return Exit.FAILED


def expected_exit(error: Exception) -> int | None:
    """The exit code of an error raised on purpose, None for one nobody foresaw."""
    if isinstance(error, Failure):
        return error.code
    # Where a class was never imported, no instance of it can have been raised.
    if (errors := sys.modules.get("holdfast.errors")) and isinstance(error, errors.HoldfastError):
        return exit_for(error.code)
    if (stack := sys.modules.get("holdfast_workers.stack.errors")) and isinstance(error, stack.StackError):
        return Exit.FAILED
    return None
