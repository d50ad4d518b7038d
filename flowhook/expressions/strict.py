"""How the DSL's strict mode marks expressions: a whole string `${ … }`.

Source: dsl.md, "Runtime Expressions"; schema/workflow.yaml, `runtimeExpression`.
"""

from __future__ import annotations

from typing import TypeGuard


def is_expression(value: object) -> TypeGuard[str]:
    """Whether a value is a string that is one expression from `${` to `}`, surrounding whitespace aside."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    return text.startswith("${") and text.endswith("}")


def strip(value: str) -> str:
    """Return the jq program of an expression, with or without `${ }` around it."""
    text = value.strip()
    return text[2:-1].strip() if text.startswith("${") and text.endswith("}") else text
