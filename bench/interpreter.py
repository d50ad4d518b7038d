"""Measures the CPU time of one execution in a runner's child, without network: `python -m bench.interpreter`.

Four tasks (set, set, switch, set) on a JSON body of 1 KB, from the serialized assignment to the serialized outcome:
protobuf, the workflow's input, the interpreter and its expressions, the session. Once with paths alone, which run as
plain Python, and once with jq in each task.
"""

from __future__ import annotations

import time
from typing import Any

import orjson

from flowhook.attach import codec, messages
from flowhook.events import ids
from flowhook.events.workflow_input import workflow_input
from flowhook.model import Event
from flowhook.wire import convert
from runner import session
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.effects import WorkflowCompleted
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.nodes import Program
from runner.interpreter.program import compile_program

ROUNDS = 100
BATCH = 64

BODY = {
    "action": "released",
    "number": 7,
    "repository": {"full_name": "flowhook/flowhook", "private": False},
    "items": [{"sku": f"x{number}", "quantity": number} for number in range(34)],
}


def flow(first: dict[str, str], second: dict[str, str], when: str, last: dict[str, Any]) -> dict[str, Any]:
    """Return a definition of four tasks."""
    return {
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "bench", "version": "1.0.0"},
        "do": [
            {"read": {"set": first}},
            {"shape": {"set": second}},
            {"choose": {"switch": [{"yes": {"when": when, "then": "finish"}}, {"no": {"then": "end"}}]}},
            {"finish": {"set": last}},
        ],
    }


FLOWS = {
    "paths": flow(
        {"text": '${ "New \\(.body.action) \\(.body.number)" }', "repository": "${ .body.repository.full_name }"},
        {"text": "${ .text }", "ready": "${ .repository }"},
        ".ready",
        {"done": True, "text": "${ .text }"},
    ),
    "jq in every task": flow(
        {"text": '${ "New \\(.body.action | ascii_upcase)" }', "total": "${ [.body.items[].quantity] | add }"},
        {"text": "${ .text | ascii_downcase }", "large": "${ [.total] | add > 100 }"},
        "any(.large; .)",
        {"done": True, "text": "${ .text | ascii_upcase }"},
    ),
}


def execute(batch: bytes, program: Program, link: session.Session) -> int:
    """Take in one message of assignments, run them, and return the size of the answer."""
    (incoming,) = codec.decode_response(codec.Response.FromString(batch))
    if not isinstance(incoming, messages.AssignmentBatch):
        raise TypeError
    link.receive(incoming, 0)
    for assignment in incoming.assignments:
        event = convert.event_from_bytes(assignment.event)
        workflow = ExecutionContext(
            event.id, program.definition, workflow_input(event), event.receive_time_ms, lambda: 0
        )
        step = ExecutionMachine(program, workflow).advance().ending
        if not isinstance(step, WorkflowCompleted):
            raise TypeError(step)
        link.finish(assignment.lease, messages.Completed(step.output))
    size = sum(len(request.SerializeToString()) for request in codec.encode_requests(link.take()))
    link.receive(messages.Settlement(tuple(assignment.lease for assignment in incoming.assignments)), 0)
    return size


def main() -> None:
    """Print a line for each flow."""
    body = orjson.dumps(BODY)
    headers = tuple((f"x-header-{number}", b"a value of a header") for number in range(8))
    event = Event(ids.mint(0), "bench", 1, None, "", "POST", "/hook/bench", "", "application/json", headers, body)
    payload = convert.event_to_bytes(event)
    assignments = tuple(messages.Assignment(b"%016d" % number, 1, 1, payload) for number in range(BATCH))
    (response,) = codec.encode_responses([messages.AssignmentBatch(assignments)])
    batch = response.SerializeToString()
    for name, definition in FLOWS.items():
        program = compile_program(definition, Evaluator())
        link = session.Session(runner_id="bench", components=(), build="", capacity=4 * BATCH, losses_explained=True)
        link.connected(time.monotonic())
        link.take()
        link.receive(messages.Welcome(3600.0, frozenset()), time.monotonic())
        execute(batch, program, link)
        began = time.process_time()
        for _ in range(ROUNDS):
            execute(batch, program, link)
        cost = (time.process_time() - began) / ROUNDS / BATCH
        print(f"{name:<18} {len(body)} bytes  {cost * 1e6:6.1f} µs of CPU per execution")


if __name__ == "__main__":
    main()
