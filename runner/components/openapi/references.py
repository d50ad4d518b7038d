"""Resolution of references within a document, and access to values of any type.

Source: OpenAPI Specification 3.1.1, section 4.8.23 "Reference Object"; RFC 6901, section 6 (JSON Pointer in a URI).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from runner.interpreter.errors import Kind, TaskFault, fault

MAX_REFERENCES: Final = 16
"""Longest chain of references that point to references."""

_INDEX: Final = re.compile(r"[0-9]{1,9}")


def document_fault(detail: str) -> TaskFault:
    """Return the error for an invalid document, or for invalid parameters."""
    return fault(Kind.CONFIGURATION, f"openapi: {detail}")


def resolve(root: Mapping[str, Any], node: Any) -> Mapping[str, Any]:
    """Return a node, or the node that it refers to; empty if that is not an object.

    Raises:
        TaskFault: it refers to something outside of the document, to nothing, or in circles (configuration).
    """
    for _ in range(MAX_REFERENCES):
        reference = mapping(node).get("$ref")
        if not isinstance(reference, str):
            return mapping(node)
        node = _look_up(root, reference)
    raise document_fault(f"references lead in circles, or from one to another more than {MAX_REFERENCES} times")


def _look_up(root: Mapping[str, Any], reference: str) -> Any:
    if not reference.startswith("#/"):
        raise document_fault(f"the reference {reference} leads out of the document, and is not followed")
    node: Any = root
    for token in unquote(reference[2:]).split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and _INDEX.fullmatch(key) and int(key) < len(node):
            node = node[int(key)]
        else:
            raise document_fault(f"the reference {reference} leads nowhere")
    return node


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> list[Any]:
    """Return a value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []
