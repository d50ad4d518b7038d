"""One document, executed in a child without a router: what `flowhook exec` does."""

from __future__ import annotations

import time
from collections.abc import Mapping

import orjson

from flowhook.event_input import workflow_input
from flowhook.wire import convert
from runner import control
from runner.calls import Caller
from runner.components.registry import components
from runner.evaluator import Evaluator
from runner.guard.record import Record
from runner.interpreter import effects
from runner.interpreter.errors import USED_SECRETS, Kind, TaskFault, fault
from runner.interpreter.program import compile_program
from runner.interpreter.run import Run
from runner.interpreter.scope import Workflow
from runner.outbound import HttpClient
from runner.secret_values import as_data
from runner.worker.tracing import ReachedError, Tracer


async def execute(order: control.Execute, record: Record, pipe: control.Pipe) -> control.Ended:
    """Run to the end, or until the task that was asked for, and say how it ended; traces go into `pipe`."""
    program = compile_program(orjson.loads(order.definition), Evaluator(record))
    event = convert.event_from_bytes(order.event)

    async def secret(name: str) -> bytes:
        return _secret(order.secrets, name)

    try:
        secrets = as_data({name: _secret(order.secrets, name) for name in program.secrets})
    except TaskFault as problem:
        return control.Ended(None, problem.at(USED_SECRETS).error)
    workflow = Workflow(
        id=event.id,
        definition=program.definition,
        raw_input=workflow_input(event),
        started_at_ms=event.receive_time_ms,
        clock=lambda: time.time_ns() // 1_000_000,
        secrets=secrets,
    )
    report = (lambda entry: pipe.send(control.Traced(entry))) if order.trace else None
    run = Run(program, workflow, observer=Tracer(report, order.until) if report or order.until else None)
    async with HttpClient(allow_private_addresses=order.settings.allow_private_addresses) as http:
        caller = Caller(components(), http, order.settings)
        try:
            step = run.start()
            while True:
                match step:
                    case effects.Perform():
                        step = run.resume(await caller.perform(event.id, step, secret))
                    case effects.Pause():
                        await pipe.flush()
                        step = run.resume()
                    case effects.Completed(output=output):
                        return control.Ended(output, None)
                    case effects.Faulted(error=problem_):
                        return control.Ended(None, problem_)
        except ReachedError as end:
            return control.Ended(end.output, None, reached=True)


def _secret(secrets: Mapping[str, bytes], name: str) -> bytes:
    if name not in secrets:
        raise fault(Kind.AUTHORIZATION, f"the secret {name} is not set")
    return secrets[name]
