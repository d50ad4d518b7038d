"""Runs one document locally, with the same interpreter and guard as in a cluster, but without router and storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flowhook.asyncio_tasks import end_tasks
from runner import ipc
from runner.guard.process_starter import InterpreterStarter
from runner.guard.worker_process import WorkerProcess
from runner.interpreter.errors import Kind, error


async def run_document(
    order: ipc.RunDocument, report: Callable[[ipc.Message], None] = lambda _message: None
) -> ipc.RunEnded:
    """Execute a checked document in a separate process and return its outcome.

    What the process says meanwhile is passed to `report`: tasks that have ended (`ipc.TaskTraced`), replies of the flow
    to its sender (`ReplySent`), why the execution is idle for a while (`WaitStarted`), and calls that a mock has
    answered (`CallMocked`).

    Raises:
        OSError: the process can't be started.
    """
    child = await WorkerProcess.spawn(InterpreterStarter())
    tasks: list[asyncio.Task[object]] = []
    try:
        child.control.send(order)
        final = asyncio.create_task(_final_message(child.control, report))
        decision = asyncio.create_task(child.watch(order.settings))
        tasks += [final, decision]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not final.done():
            killed = decision.result()
            problem = killed.error or error(Kind.RUNTIME, f"the process was killed: {killed.reason}")
            return ipc.RunEnded(None, problem)
        ended = final.result()
        if ended is not None:
            return ended
        return ipc.RunEnded(None, error(Kind.RUNTIME, f"the process died ({await child.process.wait()})"))
    finally:
        await end_tasks(tasks)
        await child.close()


async def _final_message(control: ipc.ControlChannel, report: Callable[[ipc.Message], None]) -> ipc.RunEnded | None:
    while (message := await control.receive()) is not None and not isinstance(message, ipc.RunEnded):
        report(message)
    return message
