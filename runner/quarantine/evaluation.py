"""Evaluates expressions and schemas of suspect executions in a sandboxed process, and keeps what was compiled.

The functions, for `flowhook.sandbox`, refuse with an `InvalidError` what raises a `ValueError` elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import orjson

from flowhook.errors import InvalidError
from flowhook.events.workflow_input import workflow_input
from flowhook.json import schemas
from flowhook.wire import convert
from runner.evaluation.jq_programs import JqProgramCache
from runner.interpreter import json_codec
from runner.interpreter.errors import TaskFault

SCHEMA_CACHE: Final = 64

_programs: Final = JqProgramCache()


def first_result(program: bytes, text: bytes) -> Iterator[bytes]:
    """Yield the first result of a jq program for an input, if there is one; both are JSON."""
    with _refusing():
        result = _programs.first(program.decode(), text.decode())
    if result is not None:
        yield result.encode()


def first_violation(schema: bytes, data: bytes) -> Iterator[bytes]:
    """Yield where data first violates a JSON Schema, if it does; both are JSON."""
    with _refusing():
        result = _compiled(schema)(orjson.loads(data))
    if result is not None:
        yield result.encode()


@lru_cache(SCHEMA_CACHE)
def _compiled(schema: bytes) -> Callable[[Any], str | None]:
    return schemas.first_violation(orjson.loads(schema))


def event_input(event: bytes, options: bytes, *contents: bytes) -> Iterator[bytes]:
    """Yield `workflow_input` of a serialized event as JSON.

    `options` are its other arguments as JSON: `webhook`, `raw`, `owner`, and the indexes of the attachments `contents`.
    """
    webhook, raw, owner, indexes = orjson.loads(options)
    with _refusing():
        data = workflow_input(
            convert.event_from_bytes(event),
            webhook=webhook,
            raw=raw,
            owner=owner,
            contents=dict(zip(indexes, contents, strict=True)),
        )
        yield json_codec.encode(data)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (TaskFault, ValueError) as problem:
        raise InvalidError(str(problem)) from None
