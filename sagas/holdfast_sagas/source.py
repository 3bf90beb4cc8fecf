"""The digest of a body's source: the same for another layout or comment, another one for another meaning.

It covers the decorated function and nothing that the function calls.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from holdfast.errors import DeclarationError
from holdfast.ids import Digest, canonical, digest


def source_digest(body: Callable[..., Any]) -> Digest:
    """Raises DeclarationError where the source cannot be read."""
    try:
        source = textwrap.dedent(inspect.getsource(body))
    except (OSError, TypeError) as error:
        raise DeclarationError("its source cannot be read; declare it in a module file") from error
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.AsyncFunctionDef)
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    return digest(canonical(_shape(function)))


def _shape(node: Any) -> Any:
    """The tree without what is empty, so that a Python that adds a field to it changes nothing."""
    if isinstance(node, list):
        return [_shape(each) for each in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: _shape(value) for name, value in ast.iter_fields(node) if value is not None and value != []}
    return [type(node).__name__, fields]
