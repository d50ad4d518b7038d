"""Evaluates expressions and parses events in quarantine: `python -I -m runner.quarantine.process FD SECONDS BYTES`.

The process has one thread and no state, so it may be killed at any moment. Its parent supervises it; the limits that it
sets for itself are a second line of defence, enforced by the kernel when the parent can't act.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections import OrderedDict
from typing import Final

import orjson

from flowhook.events.workflow_input import workflow_input
from flowhook.offload.frames import READY, receive, send
from flowhook.offload.isolation import isolate
from flowhook.wire import convert
from runner.evaluation.jq_programs import CompiledSchema, JqProgramCache
from runner.interpreter import json_codec
from runner.interpreter.errors import TaskFault
from runner.quarantine import frames

GRACE_SECONDS: Final = 1.0
"""CPU time beyond the limit of one evaluation after which the kernel kills the process."""

SCHEMA_CACHE: Final = 64

_MIB: Final = 1024 * 1024


def main() -> None:
    """Serve requests until the other end is gone."""
    seconds, memory = float(sys.argv[2]), int(sys.argv[3])
    # twice the allowed growth, plus what the process needs already
    link = isolate(int(sys.argv[1]), 2 * memory + 256 * _MIB)
    with contextlib.suppress(OSError):
        send(link, READY)
        _serve(link, seconds + GRACE_SECONDS)


def _serve(link: socket.socket, seconds: float) -> None:
    programs = JqProgramCache()
    schemas: OrderedDict[bytes, CompiledSchema] = OrderedDict()
    while True:
        try:
            kind, (first, second, *more) = receive(link)
        except EOFError:
            return
        began = time.process_time_ns()
        # SIGPROF kills a process without a handler for it; ITIMER_PROF measures CPU time
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            if kind == frames.PROGRAM:
                result = programs.first(first.decode(), second.decode())
            elif kind == frames.EVENT:
                result = _event_input(first, second, more)
            else:
                result = _schema(schemas, first).violation(orjson.loads(second))
            answer = (frames.NOTHING,) if result is None else (frames.RESULT, result.encode())
        except ValueError as problem:
            answer = (frames.FAILURE, str(problem).encode())
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        used = frames.CPU.pack(time.process_time_ns() - began)
        try:
            send(link, answer[0], used, *answer[1:])
        except OSError:
            return


def _event_input(event: bytes, options: bytes, contents: list[bytes]) -> str:
    """Return `workflow_input` as JSON; see `isolated_evaluator`."""
    webhook, raw, owner, indexes = orjson.loads(options)
    data = workflow_input(
        convert.event_from_bytes(event),
        webhook=webhook,
        raw=raw,
        owner=owner,
        contents=dict(zip(indexes, contents, strict=True)),
    )
    try:
        return json_codec.encode(data).decode()
    except TaskFault as problem:
        raise ValueError(str(problem)) from None


def _schema(schemas: OrderedDict[bytes, CompiledSchema], document: bytes) -> CompiledSchema:
    schema = schemas.get(document)
    if schema is None:
        schema = schemas[document] = CompiledSchema(orjson.loads(document))
        if len(schemas) > SCHEMA_CACHE:
            schemas.popitem(last=False)
    return schema


if __name__ == "__main__":
    main()
