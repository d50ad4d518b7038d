"""Performs the calls of a client over one channel, and reads lists page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any, Final, TypeVar

from flowhook.client.asyncio_calls import Credentials, RpcError, StreamMethod, UnaryMethod, open_channel, sleep
from flowhook.client.router_errors import CallRetries, translate
from flowhook.client.values import Page
from flowhook.errors import UnavailableError
from flowhook.model.audit import reason_metadata
from flowhook.wire.mapping import from_proto

PAGE_SIZE: Final = 500  # items of a list that are requested at a time

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class AsyncTransport:
    """A channel to the router at `target`, or to several; `timeout`: seconds that a call may take, retries included."""

    def __init__(self, target: str, token: str, credentials: Credentials | None, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.channel = open_channel(target, token, credentials)

    async def call(
        self,
        method: UnaryMethod[Q, R],
        request: Q,
        *,
        repeatable: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline of a call
        check: Callable[[R], None] | None = None,
    ) -> R:
        """Call a method and return its response; if `repeatable`, retry while the router is unavailable.

        `check` may raise an UnavailableError that the response reports, and for which the call is retried as well.
        Raises FlowhookError: the call failed.
        """
        attempts = CallRetries(repeatable, self.target, self.timeout if timeout is None else timeout, monotonic())
        while True:
            try:
                response = await method(request, timeout=attempts.remaining(monotonic()), metadata=reason_metadata())
                if check is not None:
                    check(response)
            except (RpcError, UnavailableError) as error:
                await sleep(attempts.delay_after(error, monotonic()))
            else:
                return response

    async def value(self, method: UnaryMethod[Q, Any], request: Q, kind: type[T]) -> T:
        """Call a method and return its response as a value of a model type, as `call` does."""
        return from_proto(await self.call(method, request), kind)

    async def item(self, method: UnaryMethod[Q, Any], request: Q, kind: type[T], *, repeatable: bool = True) -> T:
        """Call a method and return the first field of its response, as `call` does."""
        response = await self.call(method, request, repeatable=repeatable)
        return from_proto(getattr(response, response.DESCRIPTOR.fields_by_number[1].name), kind)

    async def page(self, method: UnaryMethod[Q, Any], request: Q, kind: type[T]) -> Page[T]:
        """Call a method whose response has a part of a list and the token of the next one, and return both."""
        response = await self.call(method, request)
        (items,) = (field.name for field in response.DESCRIPTOR.fields if field.is_repeated)
        return Page([from_proto(each, kind) for each in getattr(response, items)], response.next_page_token)

    async def stream(self, method: StreamMethod[Q, R], request: Q, convert: Callable[[R], T]) -> AsyncIterator[T]:
        """Yield the converted messages of a stream, which ends when the iterator is closed; raises as `call` does."""
        attempts = CallRetries(False, self.target, self.timeout, monotonic())
        begun = False
        while True:
            stream: Any = None
            try:
                stream = method(request)
                async for message in stream:
                    begun = True
                    yield convert(message)
            except RpcError as error:
                if begun:
                    raise translate(error, self.target) from None
                delay = attempts.delay_after(error, monotonic())
            else:
                return
            finally:
                if stream is not None:  # else there is no owner
                    stream.cancel()
            await sleep(delay)

    async def close(self) -> None:
        """Close the channel; calls in progress fail."""
        await self.channel.close(None)


async def iterate(read: Callable[..., Any], limit: int | None = None) -> AsyncIterator[Any]:
    """Yield the items of all pages, at most `limit` of them; `read` takes `page_size` and `page_token`."""
    token = ""
    while limit is None or limit > 0:
        page = await read(page_size=PAGE_SIZE if limit is None else min(limit, PAGE_SIZE), page_token=token)
        for item in page.items:
            yield item
        token = page.next_page_token
        if not token:
            return
        if limit is not None:
            limit -= len(page.items)
