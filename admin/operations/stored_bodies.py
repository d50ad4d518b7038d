"""Reads the beginning of a stored body."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from flowhook.client import AsyncClient


async def read_beginning(client: AsyncClient, execution_id: str, most: int) -> bytes:
    """Return the body of the request that started an execution, cut after more than `most` bytes.

    Raises:
        NotFoundError: there is no such execution.
    """
    body = bytearray()
    chunks = cast("AsyncGenerator[bytes, None]", client.executions.body(execution_id))
    async with aclosing(chunks):  # ends the call that sends the rest
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                break
    return bytes(body)
