"""Applies the flows at the start, in a separate process: a gRPC client is large, and is needed only once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from cli.supervisor.cluster_spec import Command
from cli.supervisor.process_supervisor import (
    MAX_FIRST_STARTS,
    REFUSED,
    WRONG_USAGE,
    ChildProcess,
    StartRefusedError,
    describe_exit,
    ended_externally,
)
from cli.supervisor.progress import print_progress
from flowhook.errors import InternalError
from flowhook.retrying import PROCESS

ROUTER_AWAY: Final = 75  # exit code of `cli.applying` when the router is unreachable (sysexits.h, EX_TEMPFAIL)


async def apply_flows(command: Command, settings: Callable[[], Awaitable[Mapping[str, str]]]) -> list[str]:
    """Apply the flows, and return the IDs of all flows that have a webhook.

    Retries without limit while the router is unreachable, or when the process is killed. `command`, of `cli.applying`,
    is started at once; `settings` waits until the router serves, and returns the settings that the process waits for.

    Raises:
        StartRefusedError: the router refuses the flows; the process has printed the reason on stderr.
        InternalError: the process has a defect.
    """
    pauses, defects = PROCESS.pauses(), 0
    while True:
        webhooks: list[str] = []
        try:
            code = await _run_once(command, settings, webhooks)
        except OSError as error:
            print_progress(f"the process that applies the flows can't be started: {os.strerror(error.errno or 0)}")
            code = ROUTER_AWAY  # as temporary as an unreachable router
        if code == 0:
            return webhooks
        if code in (REFUSED, WRONG_USAGE):
            raise StartRefusedError("the flows can't be applied, see above")
        defects += code != ROUTER_AWAY and not ended_externally(code)
        if defects >= MAX_FIRST_STARTS:
            raise InternalError(f"what applies the flows {describe_exit(code)} {defects} times")
        delay = next(pauses)
        print_progress(f"the flows are not applied yet; trying again in {delay:g} s")
        await asyncio.sleep(delay)


async def _run_once(command: Command, settings: Callable[[], Awaitable[Mapping[str, str]]], webhooks: list[str]) -> int:
    child = await ChildProcess.start(command)

    async def send() -> None:
        await child.send_settings(await settings())

    try:
        async with asyncio.TaskGroup() as helpers:
            sending = helpers.create_task(send())
            code = await child.run(lambda message: webhooks.append(message["webhook"]))
            sending.cancel()
        return code
    finally:
        child.kill()
        await child.process.wait()
