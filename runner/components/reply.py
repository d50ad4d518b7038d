"""`reply`: answer the waiting sender (`webhook.respond.mode: reply`), and continue the flow.

It needs no I/O: the reply is sent along with the journal entry, and the sender receives it as soon as the entry is
durable. The first reply of an execution is sent; later ones have no effect, so that a retried block may contain one.

Source: RFC 9110, sections 5.5 (field values) and 8.3 (Content-Type).
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StrictInt, StrictStr

from flowhook import limits
from flowhook.document.models.calls import ReplyArguments
from flowhook.document.models.webhook import RESERVED_HEADERS
from flowhook.model import Reply
from flowhook.providers.scheme import TOKEN
from runner.components.base import Context, component
from runner.interpreter import json_codec
from runner.interpreter.errors import Kind, fault

MAX_HEADERS: Final = 64
# limit for the names and values of all headers together: proxies accept no more
MAX_HEADER_BYTES: Final = 16 * limits.KIB

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TYPE: Final = "content-type"


def _name(name: str) -> str:
    if not TOKEN.fullmatch(name):
        raise ValueError("is not a valid header name")
    if name.lower() in RESERVED_HEADERS:
        raise ValueError("is set by the server, not by a flow")
    return name


def _value(value: str) -> str:
    if _CONTROLS.search(value):
        raise ValueError("must be one line")
    if not value.isascii():
        raise ValueError("must be ASCII")
    return value


HeaderText = Annotated[StrictStr, AfterValidator(_value)]
HeaderValue = HeaderText | StrictInt | list[HeaderText]


class EvaluatedReplyArguments(ReplyArguments):
    """Evaluated arguments of a `call: reply`."""

    status: Annotated[StrictInt, Field(ge=200, le=599)] = 200
    headers: dict[Annotated[str, AfterValidator(_name)], HeaderValue] = Field(
        default_factory=dict, max_length=MAX_HEADERS
    )


@component("reply")
async def reply(arguments: EvaluatedReplyArguments, context: Context) -> Reply:  # noqa: ARG001 - components have one
    """Answer the sender who waits; what it hands on is its input."""
    headers = [
        (name.lower(), str(value).encode("ascii"))
        for name, values in arguments.headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise fault(Kind.CONFIGURATION, f"reply: the headers have more than {MAX_HEADER_BYTES} bytes")
    body = b""
    if arguments.body is not None:
        text = isinstance(arguments.body, str)
        body = arguments.body.encode("utf-8", "replace") if text else json_codec.encode(arguments.body)
        if all(name != _TYPE for name, _ in headers):
            headers.insert(0, (_TYPE, b"text/plain; charset=utf-8" if text else b"application/json"))
    if len(body) > limits.MAX_RESULT_BYTES:
        raise fault(Kind.CONFIGURATION, f"reply: the body has more than {limits.MAX_RESULT_BYTES} bytes")
    return Reply(arguments.status, tuple(headers), body)
