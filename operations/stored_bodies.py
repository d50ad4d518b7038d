"""Reads executions with the beginnings of their bodies."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from flowhook.model import ExecutionDetail

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


async def read_with_beginning(client: AsyncClient, execution_id: str, most: int) -> tuple[ExecutionDetail, bytes]:
    """Return an execution and the body of the request that started it, cut after more than `most` bytes.

    Raises:
        NotFoundError: there is no such execution.
    """
    detail = await client.executions.get(execution_id, max_body_bytes=most + 1)
    if detail.event.body_blob is None:
        return detail, detail.event.body
    return detail, await read_beginning(client, execution_id, most)


async def read_beginning(client: AsyncClient, execution_id: str, most: int) -> bytes:
    """Return the body of the request that started an execution, cut after more than `most` bytes."""
    body = bytearray()
    chunks = cast("AsyncGenerator[bytes, None]", client.executions.body(execution_id))
    async with aclosing(chunks):  # ends the call that sends the rest
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                break
    return bytes(body)
