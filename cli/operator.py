"""Performs operations for commands: with the blocking client, which follows the owner of the shard."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from flowhook.client import AsyncClient, Client
    from operations.operation import Operation, Parameters
    from operations.tools import Tools

MAX_PAGE: Final = 500  # items that are asked for at a time


class Operator:
    """Performs operations one after another, in an event loop of its own.

    Attributes:
        client: the client that operations use.
    """

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self._loop = loop
        self._tools: Tools | None = None

    def perform(self, operation: Operation[Any], parameters: Parameters | None = None, **given: Any) -> Any:
        """Return the result of an operation, given its parameters or their values.

        Raises:
            FlowhookError: as the operation does.
        """
        wanted = operation.read({}, given) if parameters is None else parameters
        awaited = cast("AsyncClient", _Awaited(self.client))
        # `asyncio.run` would turn a Ctrl-C into a cancellation, which a blocking call does not see
        return self._loop.run_until_complete(operation.perform(awaited, wanted, self.tools))

    def shown(self, operation: Operation[Any], parameters: Parameters | None = None, **given: Any) -> Any:
        """Return what `--json` prints of the result of an operation, as data."""
        return shown(self.perform(operation, parameters, **given))

    def chunks(self, operation: Operation[Any], parameters: Parameters) -> Iterator[bytes]:
        """Yield what an operation streams."""
        chunks = self.perform(operation, parameters)
        while (chunk := self._loop.run_until_complete(anext(chunks, None))) is not None:
            yield chunk

    def pages(self, operation: Operation[Any], parameters: Parameters, limit: int | None = None) -> Iterator[Any]:
        """Yield the pages of an operation that lists something, until they have `limit` items; None: all."""
        token, left = "", limit
        while True:
            size = MAX_PAGE if left is None else min(left, MAX_PAGE)
            page = self.perform(operation, parameters.model_copy(update={"page_size": size, "page_token": token}))
            yield page
            token = page.next_page_token
            left = None if left is None else left - len(getattr(page, operation.items))
            if not token or left == 0:
                return

    @property
    def tools(self) -> Tools:
        """What operations use besides the client; commands compute no traces."""
        if self._tools is None:
            from operations.tools import Tools

            self._tools = Tools()
        return self._tools

    async def close(self) -> None:
        """End the processes that operations started."""
        if self._tools is not None:
            await self._tools.evaluator.aclose()


def shown(result: Any) -> Any:
    """Return what `--json` prints of a result, as data."""
    import json

    import orjson

    from operations.encoding import to_json

    text = to_json(result)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # nested more deeply than it reads
        return json.loads(text)


@contextmanager
def open_operator(router: str | None, data_dir: Path | None) -> Iterator[Operator]:
    """Open an operator with the admin token; raises as `cli.client_factory.open_client` does."""
    from cli.client_factory import client_for, client_settings

    loop = asyncio.new_event_loop()
    try:
        with client_for(client_settings(router, data_dir)) as client:
            operator = Operator(client, loop)
            try:
                yield operator
            finally:
                loop.run_until_complete(operator.close())
    finally:
        loop.close()


class _Awaited:
    """A blocking client as operations take one: what its methods return can be awaited, or iterated over."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._part, name)
        if not callable(member):
            return _Awaited(member)

        def call(*arguments: Any, **options: Any) -> Any:
            result = member(*arguments, **options)
            return _yielded(result) if inspect.isgenerator(result) else _returned(result)

        return call


async def _returned(result: Any) -> Any:
    return result


async def _yielded(results: Iterator[Any]) -> AsyncIterator[Any]:
    for result in results:
        yield result
