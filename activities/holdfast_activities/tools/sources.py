"""Loading the author's code by `module:attribute`, with errors an author can act on.

Importing runs somebody else's module: whatever it raises becomes one line naming the file and line.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.errors import DeclarationError
from holdfast.tools import Tool


def make_importable(directory: Path) -> None:
    """Let modules beside the configuration file be imported, as `python -m` would."""
    if (entry := str(directory.resolve())) not in sys.path:
        sys.path.insert(0, entry)


def load(reference: str) -> Any:
    """Import `module:attribute` and return the object.

    Raises:
        DeclarationError: when the module is missing or fails to import, or has no such attribute.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise DeclarationError(f'`{reference}` is no reference to a tool; write "module:function"')
    found: Any = _import(module_name, reference)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise DeclarationError(f"`{reference}`: module `{module_name}` has no `{attribute}`")
        found = getattr(found, part)
    return found


def load_function(reference: str) -> Callable[..., Any]:
    """Load something callable that is not a declared tool. Raises DeclarationError."""
    found = load(reference)
    if isinstance(found, Tool):
        return found.fn
    if not callable(found):
        raise DeclarationError(f"`{reference}` is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]  # `callable` narrows Any to Any


def reference_of(declared: Tool) -> str:
    """`module:attribute` under which a declared tool is found again.

    Raises:
        DeclarationError: when it is not: a tool made inside a function outlives no process.
    """
    reference = f"{declared.fn.__module__}:{declared.fn.__qualname__}"
    found = None if "<" in reference else load(reference)
    if found is not declared:
        raise DeclarationError(
            f"tool `{declared.name}` cannot be found again as `{reference}`; declare it at the top of its module"
        )
    return reference


def _import(module_name: str, reference: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise DeclarationError(
                f"`{reference}`: there is no module `{error.name}`; looked in {sys.path[0]} "
                "and the installed packages"
            ) from error
        raise DeclarationError(f"`{reference}`: {_one_line(error)}") from error
    except DeclarationError as error:
        raise DeclarationError(f"`{reference}`: {_place(error)}{error}") from error
    except (Exception, SystemExit) as error:  # the author's module may raise anything
        raise DeclarationError(f"`{reference}`: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}"
    said = " ".join(str(error).split())
    return f"{_place(error)}{type(error).__name__}: {said}"


def _place(error: BaseException) -> str:
    """`file:line: ` of the last frame in the author's own code, not in a library it uses and not in ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    ours = {__file__, sys.modules[Tool.__module__].__file__}
    theirs = [frame for frame in frames if frame.filename not in ours and not _is_library(frame.filename)]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}: " if theirs else ""


def _is_library(filename: str) -> bool:
    return filename.startswith(sysconfig.get_path("stdlib")) or "site-packages" in filename
