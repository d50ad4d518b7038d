"""Documents: read, searched for an operation, and forgotten; the operations are kept for a while."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from flowhook import limits
from flowhook.config import RunnerSettings
from flowhook.document import source
from runner.components.base import Context
from runner.components.cache import Cache, fingerprint
from runner.components.openapi.operations import Operation, find_operation
from runner.components.openapi.references import wrong
from runner.components.resource import Resource, fetch

KEPT_SECONDS: Final = 300.0
KEPT_PARAMETERS: Final = 50_000
"""Of all operations that are kept, each counted as one more."""

MAX_YAML_BYTES: Final = limits.MAX_DOCUMENT_BYTES
"""YAML takes a thousand times as long as JSON, which may have `limits.MAX_RESULT_BYTES`."""

MAX_READERS: Final = 2
"""Documents that are read at a time."""

_THREAD_BYTES: Final = 16 * limits.KIB


class Operations:
    """The operations that a process knows; see `Shared`."""

    def __init__(self, _settings: RunnerSettings) -> None:
        self._operations: Cache[Operation] = Cache(seconds=KEPT_SECONDS, weight=KEPT_PARAMETERS)
        self._readers = asyncio.Semaphore(MAX_READERS)

    async def close(self) -> None:
        """Do nothing: memory is all there is."""

    async def get(self, document: Resource, operation_id: str, context: Context) -> Operation:
        """Return an operation of a document.

        Raises:
            TaskFault: the document can't be fetched, is none, or does not have the operation.
        """

        async def load() -> tuple[Operation, int]:
            content = await fetch(document, context, "openapi: with.document.endpoint")

            def find() -> Operation:
                return find_operation(parse(content), operation_id, document.uri)

            async with self._readers:
                operation = find() if len(content) < _THREAD_BYTES else await asyncio.to_thread(find)
            return operation, 1 + len(operation.parameters)

        key = fingerprint(document.model_dump(mode="json"), operation_id)
        return await self._operations.get(key, load)


def parse(content: bytes) -> Any:
    """Return a document as plain JSON. Blocking, for seconds if it is large.

    Raises:
        TaskFault: it is neither JSON nor YAML, or too large for YAML (configuration).
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    if len(content) > MAX_YAML_BYTES:
        raise wrong(f"the document is not JSON, and for YAML it is too large: more than {MAX_YAML_BYTES} bytes")
    read = source.read(content)
    if read.data is None:
        problem = read.problems[0] if read.problems else None
        raise wrong(f"the document is neither JSON nor YAML: {problem.cause if problem else 'it is empty'}")
    return read.data  # keys that are numbers, as statuses often are, count as problems, but are texts by now
