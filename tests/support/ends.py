"""Waits for executions to end."""

from __future__ import annotations

import asyncio

from support.patience import PATIENCE


async def ended(client, execution_id, within=PATIENCE):
    """Wait for an execution to end, looking at it whenever something of any changes; returns it."""
    async with asyncio.timeout(within):
        async for _ in client.executions.watch():
            execution = (await client.executions.get(execution_id)).execution
            if execution.status.ended:
                return execution
    raise AssertionError
