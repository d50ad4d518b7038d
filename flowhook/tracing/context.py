"""W3C trace contexts: the fields `traceparent` and `tracestate`.

Source: https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
MAX_STATE: Final = 512  # characters that a participant has to pass on at least; longer ones are dropped
MAX_MEMBERS: Final = 32

_PARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-[\x21-\x7e]{0,200})?"
)
_ODD: Final = frozenset("13579bdf")  # last digits of flags that say `sampled`
_MEMBER: Final = re.compile(
    r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class TraceContext(NamedTuple):
    """One span's place in a trace."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16 of them
    sampled: bool = False  # whether its spans are recorded

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(traceparent: str) -> TraceContext | None:
    """Return the context that a `traceparent` has; None: it is none, and a new trace begins."""
    match = _PARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    return None if rest and version == "00" else TraceContext(trace_id, span_id, flags in _ODD)


def trace_id_of(traceparent: str) -> str:
    """Return the ID of the trace that a `traceparent` is of; empty: it is none."""
    context = parse(traceparent)
    return "" if context is None else context.trace_id


def log_fields(execution_id: str, flow_id: str, trace_id: str) -> dict[str, str]:
    """Return what identifies an execution in a log line: its ID, its flow, and its trace, if it is in one."""
    return {"execution": execution_id, "flow": flow_id, **({"trace_id": trace_id} if trace_id else {})}


def state_of(headers: Iterable[tuple[str, bytes]]) -> str:
    """Return the `tracestate` among header fields, if it is valid and at most `MAX_STATE` long, else empty."""
    values = [value for name, value in headers if name == TRACESTATE]
    if not values or sum(map(len, values)) > MAX_STATE:
        return ""
    members = [each.strip() for each in b",".join(values).decode("latin-1").split(",")]
    given = [each for each in members if each]
    if len(given) > MAX_MEMBERS or not all(map(_MEMBER.fullmatch, given)):
        return ""
    return ",".join(given)


def unsampled(trace_id: str = "") -> str:
    """Return the `traceparent` of a span that is not recorded, in a trace of its own unless one is given."""
    if trace_id:
        return f"00-{trace_id}-{random.getrandbits(64) or 1:016x}-00"
    digits = f"{random.getrandbits(192):048x}"
    return f"00-{digits[:32]}-{digits[32:]}-00"


def new_trace_id() -> str:
    return f"{random.getrandbits(128) or 1:032x}"  # has to be unique, not secret


def new_span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"
