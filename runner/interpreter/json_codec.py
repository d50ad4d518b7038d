"""JSON encoding of the plain Python values that the interpreter passes on, with a limit on their size."""

from __future__ import annotations

from typing import Any

import orjson

from flowhook import limits
from flowhook.json import dumps_beyond_orjson
from runner.interpreter.errors import Kind, fault


def encode(value: Any) -> bytes:
    """Return `value` as JSON; TaskFault: nested too deeply (`runtime`).

    The result of a component may hold integers of any length; orjson is limited to 64 bits, the standard library is
    not. Nesting is limited by the encoders, and to what orjson reads again: an unreadable result must not be journaled.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    try:
        return dumps_beyond_orjson(value)
    except ValueError:
        raise fault(Kind.RUNTIME, "the data is nested too deeply, or can't be written as JSON") from None


def encode_result(value: Any, what: str) -> bytes:
    """Return `value`, which `what` names, as JSON; raises TaskFault beyond `limits.MAX_RESULT_BYTES` (`runtime`)."""
    text = encode(value)
    if len(text) > limits.MAX_RESULT_BYTES:
        raise fault(Kind.RUNTIME, f"{what} has {len(text)} bytes as JSON; the limit is {limits.MAX_RESULT_BYTES}")
    return text
