"""Runs one document locally, with the same interpreter and guard as in a cluster, but without router and storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import orjson

from flowhook.asyncio_tasks import end_tasks
from flowhook.document.loader import FlowDocument
from flowhook.model import Event, Reply
from flowhook.process.settings import RunnerSettings
from flowhook.wire import convert
from runner import ipc
from runner.guard.process_starter import InterpreterStarter
from runner.guard.worker_process import WorkerProcess
from runner.interpreter.errors import Kind, error


async def run_document(
    document: FlowDocument,
    event: Event,
    settings: RunnerSettings,
    secrets: Mapping[str, bytes],
    *,
    trace: Callable[[bytes], None] | None = None,
    until: str = "",
    on_reply: Callable[[Reply], None] = lambda _reply: None,
    events: Sequence[ipc.ProvidedEvent] = (),
    skip_waits: bool = False,
    on_wait: Callable[[ipc.WaitStarted], None] = lambda _wait: None,
    mocks: Sequence[ipc.CallMock] | None = None,
    on_mocked: Callable[[ipc.CallMocked], None] = lambda _call: None,
    stops_waiting: bool = False,
) -> ipc.RunEnded:
    """Execute a checked document in a separate process and return its outcome; see `ipc.RunDocument`.

    `settings` says what may be called and for how long; no router is used. Each task that has ended is passed to
    `trace` (see `worker.standalone.describe`), each reply of the flow to its sender to `on_reply`, and why the
    execution is idle for a while to `on_wait`, each call that one of `mocks` has answered to `on_mocked`.

    Raises:
        OSError: the process can't be started.
    """
    child = await WorkerProcess.spawn(InterpreterStarter())
    tasks: list[asyncio.Task[object]] = []
    try:
        child.control.send(
            ipc.RunDocument(
                settings=settings,
                definition=orjson.dumps(document.definition),
                event=convert.event_to_bytes(event),
                secrets=secrets,
                trace=trace is not None,
                until=until,
                events=events,
                skip_waits=skip_waits,
                mocks=mocks,
                stops_waiting=stops_waiting,
            )
        )
        final = asyncio.create_task(_final_message(child.control, trace, on_reply, on_wait, on_mocked))
        decision = asyncio.create_task(child.watch(settings))
        tasks += [final, decision]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not final.done():
            killed = decision.result()
            problem = killed.error or error(Kind.RUNTIME, f"the process was killed: {killed.reason}")
            return ipc.RunEnded(None, problem)
        ended = final.result()
        if isinstance(ended, ipc.RunEnded):
            return ended
        return ipc.RunEnded(None, error(Kind.RUNTIME, f"the process died ({await child.process.wait()})"))
    finally:
        await end_tasks(tasks)
        await child.close()


async def _final_message(
    control: ipc.ControlChannel,
    trace: Callable[[bytes], None] | None,
    on_reply: Callable[[Reply], None],
    on_wait: Callable[[ipc.WaitStarted], None],
    on_mocked: Callable[[ipc.CallMocked], None],
) -> ipc.Message | None:
    """Return the child's final message; until then, pass what else it says to the callbacks."""
    while True:
        match message := await control.receive():
            case ipc.TaskTraced(entry=entry) if trace is not None:
                trace(entry)
            case ipc.ReplySent(reply=reply):
                on_reply(reply)
            case ipc.WaitStarted():
                on_wait(message)
            case ipc.CallMocked():
                on_mocked(message)
            case _:
                return message
