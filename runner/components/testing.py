"""Test kit for authors of components: calls a component as a runner would, against a real HTTP server.

`docs/testing-components.md` shows how to use it. It omits the retries and the journal of a runner, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from flowhook import limits
from flowhook.process import logs
from flowhook.process.settings import RunnerSettings
from runner.components.base import Component, Context, SharedResources
from runner.interpreter import json_codec
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.bound_client import BoundClient
from runner.outbound.http_client import HttpClient
from runner.outbound.request_bodies import NO_ATTACHMENTS, Attachments

IDEMPOTENCY_KEY: Final = "evt_test:/do/0/test#0"
SECONDS: Final = 10.0
# bytes of the shortest secret to look for in results; a shorter one would be found by chance
MIN_SECRET_LENGTH: Final = 8


@asynccontextmanager
async def context(
    *,
    secrets: Mapping[str, bytes] | None = None,
    idempotency_key: str = IDEMPOTENCY_KEY,
    seconds: float = SECONDS,
    settings: RunnerSettings | None = None,
    attachments: Attachments = NO_ATTACHMENTS,
) -> AsyncIterator[Context]:
    """Provide the context that a runner provides to a component.

    Args:
        secrets: values by name; any other name is an authorization error, as it is in a runner.
        idempotency_key: of the call.
        seconds: until the deadline, which `call` enforces.
        settings: of the runner; when absent, the defaults with private addresses allowed, so that servers on this
            machine can be called.
        attachments: of the request that started the execution, see `runner.outbound.request_bodies`.
    """
    settings = settings or RunnerSettings(allow_private_addresses=True)
    deadline = asyncio.get_running_loop().time() + seconds
    values = dict(secrets or {})

    async def secret(name: str) -> bytes:
        if name not in values:
            raise fault(Kind.AUTHORIZATION, f"the secret {name} is not set")
        return values[name]

    async with (
        HttpClient(address_policy=settings.address_policy) as http,
        SharedResources(settings) as shared,
    ):
        yield Context(
            idempotency_key=idempotency_key,
            deadline=deadline,
            log=logs.get_logger("component"),
            secret=secret,
            http=BoundClient(http, idempotency_key, deadline),
            settings=settings,
            shared=shared,
            attachments=attachments,
        )


async def call(
    component: Component,
    arguments: Mapping[str, Any],
    *,
    secrets: Mapping[str, bytes] | None = None,
    idempotency_key: str = IDEMPOTENCY_KEY,
    seconds: float = SECONDS,
    settings: RunnerSettings | None = None,
    attachments: Attachments = NO_ATTACHMENTS,
) -> Any:
    """Call a component and return its result as the flow would see it; see `context` for the arguments.

    An unexpected exception of the component, which a runner hides from the flow, is raised unchanged.

    Raises:
        TaskFault: the call failed; its `error` is what the flow would see.
        AssertionError: the result or the error holds the value of a secret.
    """
    async with context(
        secrets=secrets,
        idempotency_key=idempotency_key,
        seconds=seconds,
        settings=settings,
        attachments=attachments,
    ) as offered:
        try:
            async with asyncio.timeout_at(offered.deadline):
                result = await component(arguments, offered)
        except TimeoutError:
            raise fault(Kind.TIMEOUT, f"{component.name} did not end within its timeout") from None
        except TaskFault as problem:
            _check_secrets(orjson.dumps(problem.error.as_dict()), secrets or {}, "the error")
            raise
    encoded = json_codec.encode_result(result, f"the result of {component.name}")
    _check_secrets(encoded, secrets or {}, "the result")
    return orjson.loads(encoded)


def _check_secrets(encoded: bytes, secrets: Mapping[str, bytes], where: str) -> None:
    for name, value in secrets.items():
        shown = orjson.dumps(value.decode(errors="replace"))[1:-1]
        if len(value) >= MIN_SECRET_LENGTH and shown in encoded:
            raise AssertionError(f"{where} contains the value of the secret {name}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Response of a receiver: `json` if it is given, else `body`."""

    status: int = 200
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Received:
    """A received request."""

    method: str
    path: str  # with the query string
    headers: Mapping[str, str]  # by lower-case name; the last value of a repeated one
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """A running HTTP server."""

    url: str  # without a slash at the end
    received: list[Received] = field(default_factory=list)  # all requests, in order


@asynccontextmanager
async def receiver(*answers: Answer) -> AsyncIterator[Receiver]:
    """Run an HTTP server on a free port of this machine.

    It gives one of the `answers` to each request, and repeats the last one. Without any: 200 and `{}`.
    """
    script = answers or (Answer(json={}),)
    running = Receiver("")

    async def handle(request: web.Request) -> web.Response:
        answer = script[min(len(running.received), len(script) - 1)]
        headers = {name.lower(): value for name, value in request.headers.items()}
        running.received.append(Received(request.method, request.path_qs, headers, await request.read()))
        if answer.json is not None:
            return web.json_response(answer.json, status=answer.status, headers=answer.headers)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    application = web.Application(client_max_size=limits.MAX_BODY_BYTES)
    application.router.add_route("*", "/{path:.*}", handle)
    server = web.AppRunner(application, access_log=None)
    await server.setup()
    try:
        await web.TCPSite(server, "127.0.0.1", 0).start()
        host, port = server.addresses[0][:2]
        running.url = f"http://{host}:{port}"
        yield running
    finally:
        await server.cleanup()
