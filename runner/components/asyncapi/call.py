"""One call of an AsyncAPI operation: a message is published."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flowhook.document.models.calls import AsyncApiArguments, AsyncApiMessage, AsyncApiServer
from runner.authentication.policy import Policy
from runner.components.asyncapi.connections import PROTOCOLS, Target, load_transport, select_server
from runner.components.asyncapi.documents import SEND, ChannelOperation, ChannelOperations, find_operation
from runner.components.asyncapi.messages import address_of, encode_text, endpoint_of, outbound
from runner.components.base import Context, component
from runner.components.resource import Resource

Scalar = str | int | float | bool | None


class EvaluatedServer(AsyncApiServer):
    """`server`, evaluated."""

    variables: dict[str, Scalar] = Field(default_factory=dict)


class EvaluatedMessage(AsyncApiMessage):
    """`message`, evaluated."""

    headers: dict[str, Any] = Field(default_factory=dict)


class EvaluatedAsyncApiArguments(AsyncApiArguments):
    """Evaluated arguments of a `call: asyncapi`."""

    document: Resource
    server: EvaluatedServer | None = None
    message: EvaluatedMessage
    authentication: Policy | None = None  # type: ignore[assignment] # the interpreter has replaced `use`


@component("asyncapi")
async def call(arguments: EvaluatedAsyncApiArguments, context: Context) -> Any:
    """Publish a message to the broker or server that an AsyncAPI document describes."""
    operation = await _operation(arguments, SEND, context)
    message = arguments.message
    target = _target(arguments, operation, message.payload, message.headers)
    transport = await load_transport(PROTOCOLS[target.server.protocol])
    encoded = outbound(operation, message.payload, message.headers, key=context.idempotency_key)
    return await transport.publish(target, encoded, arguments.authentication, context)


async def _operation(arguments: EvaluatedAsyncApiArguments, action: str, context: Context) -> ChannelOperation:
    def find(document: Any) -> tuple[ChannelOperation, int]:
        found = find_operation(document, channel=arguments.channel, operation=arguments.operation, action=action)
        return found, found.weight

    name = f"{action} {'channel' if arguments.operation is None else 'operation'}"
    key = f"{name} {arguments.channel or arguments.operation}"
    return await context.shared.get(ChannelOperations).get(arguments.document, key, find, context)


def _target(
    arguments: EvaluatedAsyncApiArguments, operation: ChannelOperation, payload: Any, headers: dict[str, Any]
) -> Target:
    given = arguments.server
    server = select_server(operation, None if given is None else given.name, arguments.protocol)
    variables = {} if given is None else {key: encode_text(each) for key, each in given.variables.items()}
    protocol = PROTOCOLS[server.protocol]
    endpoint = endpoint_of(server, variables, port=protocol.port, tls=protocol.tls)
    return Target(operation, server, endpoint, address_of(operation, payload, headers, dots=protocol.module != "nats"))
