"""JSON Schema overrides for fields whose YAML form differs from their Python type."""

from __future__ import annotations

from typing import Any, Final

from pydantic import WithJsonSchema
from pydantic.json_schema import JsonSchemaValue

EXPRESSION: Final[JsonSchemaValue] = {"type": "string", "pattern": r"^\s*\$\{[\s\S]*\}\s*$"}
"""An expression in `${ }`."""

_DURATION: Final[JsonSchemaValue] = {
    "description": "A duration.",
    "examples": ["PT30S", "PT5M", "P1D"],
    "anyOf": [
        {"type": "string", "pattern": r"^P(?=.)([0-9.]+W)?([0-9.]+D)?(T(?=.)([0-9.]+H)?([0-9.]+M)?([0-9.]+S)?)?$"},
        {
            "type": "object",
            "properties": {
                unit: {"type": "integer", "minimum": 0}
                for unit in ("days", "hours", "minutes", "seconds", "milliseconds")
            },
            "additionalProperties": False,
            "minProperties": 1,
        },
    ],
}
DURATION: Final = WithJsonSchema(_DURATION)
DURATION_OR_EXPRESSION: Final = WithJsonSchema({**_DURATION, "anyOf": [*_DURATION["anyOf"], EXPRESSION]})
SIZE: Final = WithJsonSchema(
    {
        "description": "A size.",
        "examples": ["10MiB", "512KiB"],
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]{1,15}( ?(B|[kKMG]B|[KMG]iB))?$"},
            {"type": "integer", "minimum": 1},
        ],
    }
)
NETWORK: Final = WithJsonSchema(
    {"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]+)?$", "examples": ["192.0.2.0/24", "2001:db8::/32"]}
)
TRANSFORMATION: Final = WithJsonSchema({"type": ["string", "object"]})
DATA: Final = WithJsonSchema({"anyOf": [EXPRESSION, {"type": "object", "minProperties": 1}]})
_SCALAR: Final[JsonSchemaValue] = {"type": ["string", "number", "boolean"]}
TEXTS: Final = WithJsonSchema({"anyOf": [EXPRESSION, {"type": "object", "additionalProperties": _SCALAR}]})
QUERY: Final = WithJsonSchema(
    {
        "anyOf": [
            EXPRESSION,
            {
                "type": "object",
                "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
            },
        ]
    }
)
PORT: Final = WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, EXPRESSION]})
MESSAGES: Final = WithJsonSchema(
    {"anyOf": [EXPRESSION, {"type": "object"}, {"type": "array", "items": {"type": ["object", "string"]}}]}
)
PARAMETERS: Final = WithJsonSchema({"anyOf": [EXPRESSION, {"type": "object"}]})
STATUS: Final = WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 200, "maximum": 599}, EXPRESSION]})
TEXT_OR_LIST: Final = WithJsonSchema({"type": ["string", "array"]})
CONSTANT: Final = WithJsonSchema(_SCALAR)
EXTENSION: Final = WithJsonSchema({"type": ["string", "integer", "boolean"]})
SCHEMA: Final = WithJsonSchema({"type": ["object", "boolean"]})


def named(content: Any) -> JsonSchemaValue:
    """Return the schema of a mapping with one key, whose value is `content`: an item of a list of tasks or cases."""
    return {"type": "object", "additionalProperties": content, "minProperties": 1, "maxProperties": 1}
