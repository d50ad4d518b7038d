"""Expressions of flow files: jq, as the DSL says.

- `strict`: which strings are expressions.
- `paths`: the small part of jq that runs outside a runner's child process, compiled to plain Python.
- `jq`: the static check of whole programs; `advice`: what to write instead of what does not compile.

Nothing here ever runs a jq program of a flow: one may never end, and the binding holds the interpreter's lock
meanwhile. Only the runner's guarded child does.
"""

from flowhook.expressions.errors import ExpressionTypeError, InvalidExpression
from flowhook.expressions.strict import how_to_write, is_expression, strip

__all__ = ["ExpressionTypeError", "InvalidExpression", "how_to_write", "is_expression", "strip"]
