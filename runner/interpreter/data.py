"""JSON as the interpreter carries it: plain Python values, and their text where size matters."""

from __future__ import annotations

import json
from typing import Any

import orjson

from flowhook import limits
from runner.interpreter.errors import Kind, fault


def encode(value: Any) -> bytes:
    """Return `value` as JSON.

    What a component returns may hold a whole number of any length; orjson ends at 64 bits, the standard library does
    not. Nesting ends where orjson's does.

    Raises:
        TaskFault: nested too deeply (`runtime`).
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError, TypeError):
        raise fault(Kind.RUNTIME, "the data is nested too deeply, or is not JSON") from None


def encode_result(value: Any, what: str) -> bytes:
    """Return `value` as JSON of at most `limits.MAX_RESULT_BYTES`.

    Raises:
        TaskFault: it is larger (`runtime`); `what` names it.
    """
    text = encode(value)
    if len(text) > limits.MAX_RESULT_BYTES:
        raise fault(
            Kind.RUNTIME, f"{what} has {len(text)} bytes as JSON; at most {limits.MAX_RESULT_BYTES} are allowed"
        )
    return text
