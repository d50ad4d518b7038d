"""Extracts one operation from a document, in one form for AsyncAPI 2 and 3, with the servers where it is available.

Source: AsyncAPI Specification 2.6.0 and 3.0.0 (https://www.asyncapi.com/docs/reference/specification).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from runner.components.resource import OperationCache, mapping, sequence

MAX_SERVERS: Final = 100
MAX_PARAMETERS: Final = 100
JSON: Final = "application/json"
# what a message of a version's `message` or `subscription` does to the channel (dsl-reference.md, "AsyncAPI Call")
SEND: Final = "publish"
RECEIVE: Final = "subscribe"


class ChannelOperations(OperationCache["ChannelOperation"]):
    """The operation cache of a process; see `SharedResources`."""

    function = "asyncapi"


document_fault: Final = ChannelOperations.fault
resolve: Final = ChannelOperations.resolve


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a server's URL, or a parameter of an address."""

    default: str | None
    allowed: tuple[str, ...]  # allowed values; empty: any
    location: str = ""  # runtime expression for the value in a message; empty: none


@dataclass(frozen=True, slots=True)
class DescribedServer:
    """A server that a document names."""

    name: str
    protocol: str  # lower-case, as in the document
    version: str  # of the protocol; may be empty
    url: str  # `host:port/path` with {variables}, without a scheme
    variables: Mapping[str, Variable]
    security: tuple[str, ...]  # types of its security schemes, such as `scramSha256`


@dataclass(frozen=True, slots=True)
class ChannelOperation:
    """An operation on a channel."""

    name: str  # by which flows select it
    address: str  # of the channel, with {parameters}
    parameters: Mapping[str, Variable]
    servers: tuple[DescribedServer, ...]  # in the order of the document
    content_type: str  # of its messages
    correlation: str  # runtime expression for the correlation ID in a message; empty: none
    # bindings of channel, operation and message, by protocol: all of them as one object, in which the latter ones win
    bindings: Mapping[str, Mapping[str, Any]]

    @property
    def weight(self) -> int:
        return 1 + len(self.parameters) + sum(1 + len(server.variables) for server in self.servers)


class _Found(NamedTuple):
    """An operation as a version of AsyncAPI has it, before its references are resolved."""

    channel: Mapping[str, Any]
    operation: Mapping[str, Any]
    address: str  # of the channel
    messages: Iterable[Any]
    servers: Iterable[DescribedServer]  # where the channel is available


def find_operation(document: Any, *, channel: str | None, operation: str | None, action: str) -> ChannelOperation:
    """Return an operation of a document (plain JSON): of a `channel` in AsyncAPI 2, by its name in AsyncAPI 3.

    `action`: `SEND` or `RECEIVE`, which selects one of the channel's two operations in AsyncAPI 2. In AsyncAPI 3 an
    operation has an action of its own. It does not matter here, since documents describe either end.

    Raises:
        TaskFault: there is no such operation, or the document will not do (configuration).
    """
    root = mapping(document)
    version = str(root.get("asyncapi"))
    if version.startswith("2."):
        if channel is None:
            raise document_fault(f"the document is AsyncAPI {version}: select a `channel`, not an `operation`")
        return _read(root, channel, _find_2(root, channel, action))
    if version.startswith("3."):
        if operation is None:
            raise document_fault(f"the document is AsyncAPI {version}: select an `operation`, not a `channel`")
        return _read(root, operation, _find_3(root, operation))
    raise document_fault("the document is neither AsyncAPI 2 nor 3")


def _find_2(root: Mapping[str, Any], name: str, action: str) -> _Found:
    channels = mapping(root.get("channels"))
    if name not in channels:
        raise document_fault(f"there is no channel {name} in the document")
    channel = resolve(root, channels[name])
    if action not in channel:
        raise document_fault(f"the channel {name} has no operation `{action}`")
    operation = resolve(root, channel[action])
    message = resolve(root, operation.get("message"))
    servers, named = mapping(root.get("servers")), sequence(channel.get("servers"))
    available = (_server_2(root, each, server) for each, server in servers.items() if not named or each in named)
    return _Found(channel, operation, name, sequence(message.get("oneOf")) or [message], available)


def _find_3(root: Mapping[str, Any], name: str) -> _Found:
    operations = mapping(root.get("operations"))
    if name not in operations:
        raise document_fault(f"there is no operation {name} in the document")
    operation = resolve(root, operations[name])
    channel = resolve(root, operation.get("channel"))
    address = channel.get("address")
    if not isinstance(address, str) or not address:
        raise document_fault(f"the channel of {name} has no address")
    messages = sequence(operation.get("messages")) or mapping(channel.get("messages")).values()
    references = sequence(channel.get("servers"))
    named = [(str(mapping(each).get("$ref", "")).rpartition("/")[2], each) for each in references]
    available = (_server_3(root, *each) for each in named or mapping(root.get("servers")).items())
    return _Found(channel, operation, address, messages, available)


def _server_2(root: Mapping[str, Any], name: str, given: Any) -> DescribedServer:
    server = resolve(root, given)
    known = mapping(mapping(root.get("components")).get("securitySchemes"))
    schemes = [known.get(each) for requirement in sequence(server.get("security")) for each in mapping(requirement)]
    return _server(root, name, server, str(server.get("url")).rpartition("://")[2], schemes)


def _server_3(root: Mapping[str, Any], name: str, given: Any) -> DescribedServer:
    server = resolve(root, given)
    host, path = str(server.get("host")), str(server.get("pathname") or "")
    url = f"{host}/{path.lstrip('/')}" if path else host
    return _server(root, name, server, url, sequence(server.get("security")))


def _server(
    root: Mapping[str, Any], name: str, server: Mapping[str, Any], url: str, schemes: Iterable[Any]
) -> DescribedServer:
    return DescribedServer(
        name,
        str(server.get("protocol")).lower(),
        str(server.get("protocolVersion") or ""),
        url,
        {each: _variable(root, variable) for each, variable in mapping(server.get("variables")).items()},
        tuple(str(resolve(root, scheme).get("type")) for scheme in schemes),
    )


def _read(root: Mapping[str, Any], name: str, found: _Found) -> ChannelOperation:
    messages = [resolve(root, message) for message in found.messages]
    bindings: dict[str, dict[str, Any]] = {}
    for part in (found.channel, found.operation, *messages[:1]):
        for protocol, binding in resolve(root, part.get("bindings")).items():
            bindings.setdefault(protocol, {}).update(resolve(root, binding))
    correlations = (resolve(root, message.get("correlationId")).get("location") for message in messages)
    types = (message.get("contentType") for message in messages)
    content_type = next((each for each in types if isinstance(each, str)), root.get("defaultContentType"))
    parameters = mapping(found.channel.get("parameters"))
    servers = tuple(found.servers)
    if len(servers) > MAX_SERVERS or len(parameters) > MAX_PARAMETERS:
        raise document_fault(f"{name} has more than {MAX_SERVERS} servers, or {MAX_PARAMETERS} parameters")
    return ChannelOperation(
        name,
        found.address,
        {each: _variable(root, parameter) for each, parameter in parameters.items()},
        servers,
        content_type if isinstance(content_type, str) else JSON,
        next((each for each in correlations if isinstance(each, str)), ""),
        bindings,
    )


def _variable(root: Mapping[str, Any], given: Any) -> Variable:
    variable = resolve(root, given)
    schema = variable if "schema" not in variable else resolve(root, variable["schema"])
    default, location = schema.get("default"), variable.get("location")
    return Variable(
        None if default is None else str(default),
        tuple(map(str, sequence(schema.get("enum")))),
        location if isinstance(location, str) else "",
    )
