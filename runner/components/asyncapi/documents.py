"""Extracts one operation from a document, in one form for AsyncAPI 2 and 3, with the servers where it is available.

Source: AsyncAPI Specification 2.6.0 and 3.0.0 (https://www.asyncapi.com/docs/reference/specification).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import attrs

from runner.components.api_documents import OperationCache, mapping, sequence

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
        return _Version2(root, channel, action).read()
    if version.startswith("3."):
        if operation is None:
            raise document_fault(f"the document is AsyncAPI {version}: select an `operation`, not a `channel`")
        return _Version3(root, operation).read()
    raise document_fault("the document is neither AsyncAPI 2 nor 3")


@attrs.define(eq=False, repr=False)
class _Reader(ABC):
    """Reads one operation; base class with what both versions have in common."""

    root: Mapping[str, Any]
    name: str
    channel: Mapping[str, Any] = attrs.field(init=False)
    operation: Mapping[str, Any] = attrs.field(init=False)

    def read(self) -> ChannelOperation:
        self.find()
        messages = [resolve(self.root, message) for message in self.messages()]
        parts = [self.channel, self.operation, *messages[:1]]
        bindings: dict[str, dict[str, Any]] = {}
        for part in parts:
            for protocol, binding in resolve(self.root, part.get("bindings")).items():
                bindings.setdefault(protocol, {}).update(resolve(self.root, binding))
        correlations = (resolve(self.root, message.get("correlationId")).get("location") for message in messages)
        default = self.root.get("defaultContentType")
        types = (message.get("contentType") for message in messages)
        content_type = next((each for each in types if isinstance(each, str)), default)
        parameters = mapping(self.channel.get("parameters"))
        servers = tuple(self.servers())
        if len(servers) > MAX_SERVERS or len(parameters) > MAX_PARAMETERS:
            raise document_fault(f"{self.name} has more than {MAX_SERVERS} servers, or {MAX_PARAMETERS} parameters")
        return ChannelOperation(
            self.name,
            self.address(),
            {name: self.variable(resolve(self.root, each)) for name, each in parameters.items()},
            servers,
            content_type if isinstance(content_type, str) else JSON,
            next((each for each in correlations if isinstance(each, str)), ""),
            bindings,
        )

    def server(self, name: str, given: Any) -> DescribedServer:
        server = resolve(self.root, given)
        variables = mapping(server.get("variables"))
        return DescribedServer(
            name,
            str(server.get("protocol")).lower(),
            str(server.get("protocolVersion") or ""),
            self.url(server),
            {each: self.variable(resolve(self.root, variables[each])) for each in variables},
            tuple(self.security(server)),
        )

    def variable(self, given: Mapping[str, Any]) -> Variable:
        schema = given if "schema" not in given else resolve(self.root, given["schema"])
        default, location = schema.get("default"), given.get("location")
        return Variable(
            None if default is None else str(default),
            tuple(map(str, sequence(schema.get("enum")))),
            location if isinstance(location, str) else "",
        )

    @abstractmethod
    def find(self) -> None:
        """Find the channel and the operation."""

    @abstractmethod
    def address(self) -> str:
        """Return the address of the channel."""

    @abstractmethod
    def messages(self) -> Iterator[Any]:
        """Yield the messages of the operation; they may be references."""

    @abstractmethod
    def servers(self) -> Iterator[DescribedServer]:
        """Yield the servers where the channel is available."""

    @abstractmethod
    def url(self, server: Mapping[str, Any]) -> str:
        """Return the URL of a server without its scheme."""

    @abstractmethod
    def security(self, server: Mapping[str, Any]) -> Iterator[str]:
        """Yield the types of the security schemes of a server."""


@attrs.define(eq=False, repr=False)
class _Version2(_Reader):
    action: str

    def find(self) -> None:
        channels = mapping(self.root.get("channels"))
        if self.name not in channels:
            raise document_fault(f"there is no channel {self.name} in the document")
        self.channel = resolve(self.root, channels[self.name])
        if self.action not in self.channel:
            raise document_fault(f"the channel {self.name} has no operation `{self.action}`")
        self.operation = resolve(self.root, self.channel[self.action])

    def address(self) -> str:
        return self.name

    def messages(self) -> Iterator[Any]:
        message = resolve(self.root, self.operation.get("message"))
        yield from sequence(message.get("oneOf")) or [message]

    def servers(self) -> Iterator[DescribedServer]:
        named = sequence(self.channel.get("servers"))
        for name, server in mapping(self.root.get("servers")).items():
            if not named or name in named:
                yield self.server(name, server)

    def url(self, server: Mapping[str, Any]) -> str:
        return str(server.get("url")).rpartition("://")[2]

    def security(self, server: Mapping[str, Any]) -> Iterator[str]:
        schemes = mapping(mapping(self.root.get("components")).get("securitySchemes"))
        for requirement in sequence(server.get("security")):
            for name in mapping(requirement):
                yield str(resolve(self.root, schemes.get(name)).get("type"))


@attrs.define(eq=False, repr=False)
class _Version3(_Reader):
    def find(self) -> None:
        operations = mapping(self.root.get("operations"))
        if self.name not in operations:
            raise document_fault(f"there is no operation {self.name} in the document")
        self.operation = resolve(self.root, operations[self.name])
        self.channel = resolve(self.root, self.operation.get("channel"))

    def address(self) -> str:
        address = self.channel.get("address")
        if not isinstance(address, str) or not address:
            raise document_fault(f"the channel of {self.name} has no address")
        return address

    def messages(self) -> Iterator[Any]:
        yield from sequence(self.operation.get("messages")) or mapping(self.channel.get("messages")).values()

    def servers(self) -> Iterator[DescribedServer]:
        named = sequence(self.channel.get("servers"))
        for reference in named:
            name = str(mapping(reference).get("$ref", "")).rpartition("/")[2]
            yield self.server(name, reference)
        for name, server in mapping(self.root.get("servers")).items() if not named else ():
            yield self.server(name, server)

    def url(self, server: Mapping[str, Any]) -> str:
        path = str(server.get("pathname") or "")
        return f"{server.get('host')}/{path.lstrip('/')}" if path else str(server.get("host"))

    def security(self, server: Mapping[str, Any]) -> Iterator[str]:
        for scheme in sequence(server.get("security")):
            yield str(resolve(self.root, scheme).get("type"))
