"""Parts of an open storage: their methods are made of functions that read, and of functions that write, rows."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import apsw
import attrs

from router.storage.readers import Readers
from router.storage.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


@attrs.define(eq=False, repr=False)
class StoragePart:
    """A part of an open storage; its methods may raise UnavailableError (see `Storage`)."""

    _writer: Writer
    _readers: Readers

    async def _write(self, change: Callable[[apsw.Connection], T], *, size: int = 0, refusable: bool = False) -> T:
        return await self._writer.write(change, size=size, refusable=refusable)


def reading(
    query: Callable[Concatenate[apsw.Connection, P], T], *, by: str = "_readers", max_seconds: float | None = None
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Make a method of a query: it runs `query` with a connection of the readers that its object has as `by`.

    `max_seconds`: see `Readers.run`.
    """

    @wraps(query)
    async def read(self: Any, /, *arguments: P.args, **keywords: P.kwargs) -> T:
        readers: Readers = getattr(self, by)
        return await readers.run(lambda connection: query(connection, *arguments, **keywords), max_seconds=max_seconds)

    return read


def writing(
    change: Callable[Concatenate[apsw.Connection, P], T],
    *,
    size: Callable[..., int] | None = None,
    refusable: bool = False,
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Make a method of a function that changes rows: it runs `change` in a transaction, by `StoragePart._write`.

    `size`: returns about how many bytes its arguments hold while they wait. `refusable`: see `Writer.call`.
    """

    @wraps(change)
    async def write(self: Any, /, *arguments: P.args, **keywords: P.kwargs) -> T:
        taken = 0 if size is None else size(*arguments, **keywords)
        written: T = await self._write(
            lambda connection: change(connection, *arguments, **keywords), size=taken, refusable=refusable
        )
        return written

    return write
