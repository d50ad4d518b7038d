"""One call of an AsyncAPI operation: a message is published, or received."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from flowhook.document.models.calls import AsyncApiArguments, AsyncApiMessage, AsyncApiServer
from flowhook.tracing.tracer import SpanKind, Value
from runner.components.asyncapi.connections import PROTOCOLS, BrokerProtocol, Target, explained, select_server
from runner.components.asyncapi.documents import (
    RECEIVE,
    SEND,
    ChannelOperation,
    ChannelOperations,
    document_fault,
    find_operation,
)
from runner.components.asyncapi.messages import address_of, endpoint_of, outbound
from runner.components.asyncapi.subscriptions import Subscriptions, as_json
from runner.components.base import Context, as_text, component, load_optional
from runner.components.resource import Resource
from runner.outbound.call_trace import Exchange, traced
from runner.outbound.policies import Policy

_OVER_HTTP: Final = frozenset({"http", "websocket"})  # modules
Scalar = str | int | float | bool | None


class EvaluatedServer(AsyncApiServer):
    """`server`, evaluated."""

    variables: dict[str, Scalar] = Field(default_factory=dict)


class EvaluatedMessage(AsyncApiMessage):
    """`message`, evaluated."""

    headers: dict[str, Any] = Field(default_factory=dict)


class _Arguments(AsyncApiArguments):
    document: Resource
    server: EvaluatedServer | None = None
    authentication: Policy | None = None  # type: ignore[assignment] # the interpreter has replaced `use`


class EvaluatedAsyncApiArguments(_Arguments):
    """Evaluated arguments of a `call: asyncapi` with a `message`."""

    message: EvaluatedMessage


class SubscriptionState(BaseModel):
    """What the interpreter knows about a subscription."""

    model_config = ConfigDict(extra="forbid")

    flow: str  # ID of the flow
    name: str
    last: dict[str, Any] | None  # token of the last message, which the journal has
    until_ms: int | None  # end in Unix milliseconds
    seconds: float  # how long to wait for a message; 0: not at all
    release: bool  # whether the subscription ends


class EvaluatedSubscribeArguments(_Arguments):
    """Evaluated arguments of a `call: asyncapi` with a `subscription`."""

    subscription: SubscriptionState  # type: ignore[assignment] # the interpreter has replaced it


@component("asyncapi")
async def call(arguments: EvaluatedAsyncApiArguments, context: Context) -> Any:
    """Publish a message to the broker or server that an AsyncAPI document describes."""
    operation = await _operation(arguments, SEND, context)
    message = arguments.message
    target = _target(arguments, operation, message.payload, message.headers)
    protocol = PROTOCOLS[target.server.protocol]
    transport = await _transport(protocol)
    encoded = outbound(operation, message.payload, message.headers, key=context.idempotency_key)
    if protocol.module in _OVER_HTTP:  # requests of the HTTP client say themselves what they call
        return await transport.publish(target, encoded, context)
    origin = f"{target.server.protocol}://{target.endpoint}"
    with _traced(target) as trace, context.calling(origin), explained(transport, target):
        return await transport.publish(target, replace(encoded, trace=trace.headers), context)


def _traced(target: Target) -> AbstractContextManager[Exchange]:
    # the channel's address as the document has it: parameters are values of the message
    address = target.operation.address
    about: dict[str, Value] = {
        "messaging.system": target.server.protocol,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        f"messaging.destination.{'template' if target.operation.parameters else 'name'}": address,
        "server.address": target.endpoint.host,
        "server.port": target.endpoint.port,
    }
    return traced(f"send {address}", SpanKind.PRODUCER, about)


@component("asyncapi.subscribe")
async def subscribe(arguments: EvaluatedSubscribeArguments, context: Context) -> Any:
    """Receive a message of a subscription; returns `{message, token, ended}`."""
    operation = await _operation(arguments, RECEIVE, context)
    target = _target(arguments, operation, {}, {})
    transport = await _transport(PROTOCOLS[target.server.protocol])
    if not hasattr(transport, "subscribe"):
        raise document_fault("an HTTP server can't be subscribed to: a webhook or a callback receives messages")
    state = arguments.subscription
    left = None if state.until_ms is None else state.until_ms / 1000 - time.time()
    is_over = left is not None and left <= 0 and state.seconds > 0
    seconds = 0.0 if is_over else state.seconds if left is None or not state.seconds else min(left, state.seconds)
    message, token = await context.shared.get(Subscriptions).receive(
        state.flow,
        state.name,
        state.last,
        seconds,
        partial(transport.subscribe, target, state.name, context),
        explained=partial(explained, transport, target),
        release=state.release,
    )
    is_over = is_over or (message is None and left is not None and left <= state.seconds and state.seconds > 0)
    return {"message": None if message is None else as_json(message, operation), "token": token, "ended": is_over}


async def _transport(protocol: BrokerProtocol) -> Any:
    """Return the module of a protocol."""
    return await load_optional("asyncapi", f"{__package__}.{protocol.module}", protocol.extra)


async def _operation(arguments: _Arguments, action: str, context: Context) -> ChannelOperation:
    def find(document: Any) -> tuple[ChannelOperation, int]:
        found = find_operation(document, channel=arguments.channel, operation=arguments.operation, action=action)
        return found, found.weight

    name = f"{action} {'channel' if arguments.operation is None else 'operation'}"
    key = f"{name} {arguments.channel or arguments.operation}"
    return await context.shared.get(ChannelOperations).get(arguments.document, key, find, context)


def _target(arguments: _Arguments, operation: ChannelOperation, payload: Any, headers: dict[str, Any]) -> Target:
    given = arguments.server
    server = select_server(operation, None if given is None else given.name, arguments.protocol)
    variables = {} if given is None else {key: as_text(each) for key, each in given.variables.items()}
    protocol = PROTOCOLS[server.protocol]
    endpoint = endpoint_of(server, variables, port=protocol.port, tls=protocol.tls)
    address = address_of(operation, payload, headers, dots=protocol.module != "nats")
    return Target(operation, server, endpoint, address, arguments.authentication)
