"""Messages of a call: addresses and servers with their variables filled in, payloads as bytes.

Source: AsyncAPI Specification 3.0.0, "Runtime Expression", "Parameter Object", "Server Variable Object".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from flowhook import limits
from flowhook.payloads.content_type import is_json
from flowhook.tracing.context import TRACEPARENT
from runner.components.asyncapi.documents import ChannelOperation, DescribedServer, Variable, document_fault
from runner.components.base import as_text
from runner.components.connection_pool import ServerAddress
from runner.components.resource import VARIABLE, pointer_tokens
from runner.interpreter.json_codec import encode

# values of variables: nothing that separates the parts of a URL, a subject or a topic, or that is a wildcard there
_VALUE: Final = re.compile(r"[A-Za-z0-9_~@=-][A-Za-z0-9_~@=.-]{0,254}")
_SUBJECT_VALUE: Final = re.compile(r"[A-Za-z0-9_~@=-]{1,255}")  # the same without dots, which NATS separates with
_LOCATION: Final = re.compile(r"\$message\.(header|payload)#(/.*)?", re.DOTALL)
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message to publish."""

    payload: bytes = field(repr=False)
    content_type: str
    headers: Mapping[str, str] = field(repr=False)
    key: str  # the same on every repetition of the call
    trace: Mapping[str, str] = field(default_factory=dict)  # headers of its trace context, for what can carry them

    @property
    def all_headers(self) -> Mapping[str, str]:
        """Its headers with those of its trace; what the flow sets counts, and an empty `traceparent` means none."""
        own = next((name for name in self.headers if name.lower() == TRACEPARENT), None)
        if own is None:
            return {**self.trace, **self.headers}
        return {name: value for name, value in self.headers.items() if value or name != own}


@dataclass(slots=True, eq=False)
class InboundMessage:
    """A message that a subscription received."""

    payload: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content_type: str = ""  # as sent; empty: none
    identity: dict[str, Any] | None = None  # JSON that no other message has; None: not known
    is_repeated: bool = False  # the server may have sent it before
    correlation: str = ""  # correlation ID, if the protocol has a field for it
    native: Any = field(default=None, repr=False)  # the message as the protocol's library has it, to acknowledge it by


def endpoint_of(server: DescribedServer, given: Mapping[str, str], *, port: int, tls: bool) -> ServerAddress:
    """Return where a server is, with the `given` variables; `port` is the default.

    Raises:
        TaskFault: a variable is missing or wrong, or the URL is none (configuration).
    """
    unknown = given.keys() - server.variables.keys()
    if unknown:
        raise document_fault(f"the server {server.name} has no variable {min(unknown)}")
    url = _filled(server.url, server.variables, given.get, f"the variable {{}} of the server {server.name}", _VALUE)
    host, found, path = "", None, ""
    try:
        parts = urlsplit(f"//{url}")
        host, found, path = parts.hostname or "", parts.port, parts.path
    except ValueError:
        pass  # the host is none
    if not _HOST.fullmatch(f"[{host}]" if ":" in host else host):
        raise document_fault(f"the server {server.name} has no valid host")
    return ServerAddress(host, port if found is None else found, tls, path)


def address_of(operation: ChannelOperation, payload: Any, headers: Mapping[str, Any], *, dots: bool) -> str:
    """Return the address of an operation's channel, with the parameters that a message has; `dots`: they may have dots.

    Raises:
        TaskFault: a parameter is missing or wrong (configuration).
    """

    def value(name: str) -> str | None:
        location = operation.parameters[name].location if name in operation.parameters else ""
        found = located(location, payload, headers)
        return None if found is None or isinstance(found, list | dict) else as_text(found)

    place = f"the parameter {{}} of the channel of {operation.name}"
    return _filled(operation.address, operation.parameters, value, place, _VALUE if dots else _SUBJECT_VALUE)


def _filled(
    template: str,
    variables: Mapping[str, Variable],
    given: Callable[[str], str | None],
    place: str,
    pattern: re.Pattern[str],
) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match[1]
        variable = variables.get(name) or Variable(None, ())
        value = given(name)
        if value is None and variable.default is not None:
            return variable.default
        if value is None:
            raise document_fault(f"{place.format(name)} has no value")
        if (variable.allowed and value not in variable.allowed) or not pattern.fullmatch(value):
            raise document_fault(f"{place.format(name)} has a value that is not allowed")
        return value

    return VARIABLE.sub(fill, template)


def located(location: str, payload: Any, headers: Mapping[str, Any]) -> Any:
    """Return the value in a message that a runtime expression denotes; None if there is none."""
    match = _LOCATION.fullmatch(location)
    if match is None:
        return None
    node: Any = headers if match[1] == "header" else payload
    for token in pointer_tokens(match[2] or ""):
        node = node.get(token) if isinstance(node, Mapping) else None
    return node


def outbound(operation: ChannelOperation, payload: Any, headers: Mapping[str, Any], *, key: str) -> OutboundMessage:
    """Encode a message.

    Raises:
        TaskFault: the payload can't be written as the content type says, or is too large (configuration).
    """
    kind = operation.content_type
    if is_json(kind):
        encoded = encode(payload)
    elif isinstance(payload, str):
        encoded = payload.encode()
    elif payload is None:
        encoded = b""
    else:
        raise document_fault(f"with.message.payload: the content type is {kind}, so this has to be a text")
    if len(encoded) > limits.MAX_RESULT_BYTES:
        raise document_fault(f"with.message.payload is larger than {limits.MAX_RESULT_BYTES} bytes")
    texts = {name: as_text(value) for name, value in headers.items() if value is not None}
    return OutboundMessage(encoded, kind, texts, key)
