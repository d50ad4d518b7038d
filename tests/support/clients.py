"""Both clients behind one face: what holds for one must hold for the other."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from flowhook.client import AsyncClient, Client


class Either:
    """Calls a method of either client from a test: `await either("flows.get", "hello")`; iterators become lists."""

    def __init__(self, client):
        self.client = client

    async def __call__(self, name, *arguments, **options):
        target = self.client
        for part in name.split("."):
            target = getattr(target, part)
        if isinstance(self.client, Client):
            return await asyncio.to_thread(self._blocking, target, arguments, options)
        result = target(*arguments, **options)
        if inspect.isasyncgen(result):
            return [item async for item in result]
        return await result

    @staticmethod
    def _blocking(target, arguments, options):
        result = target(*arguments, **options)
        return list(result) if inspect.isgenerator(result) else result


KINDS = [pytest.param(Client, id="blocking"), pytest.param(AsyncClient, id="asyncio")]


async def close(client):
    if isinstance(client, Client):
        client.close()
    else:
        await client.close()
