"""Documents that describe an API (OpenAPI, AsyncAPI): fetched, parsed to plain JSON, searched for one operation.

A document is untrusted input: the type of every value in it is checked, and references may only point into the document
itself.

Source: RFC 6901, section 6 (JSON Pointer in a URI).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Generic, TypeVar
from urllib.parse import unquote

import orjson

from flowhook import limits
from flowhook.document.diagnostics import source
from flowhook.process.settings import RunnerSettings
from runner.components.base import Context
from runner.components.resource import Cache, Resource, fetch, fingerprint
from runner.interpreter.errors import Kind, TaskFault, fault

KEPT_SECONDS: Final = 300.0
KEPT_WEIGHT: Final = 50_000  # limit for the parameters of all cached operations; each operation counts as one more
# limit for YAML, which takes a thousand times as long as JSON; JSON may have `limits.MAX_RESULT_BYTES`
MAX_YAML_BYTES: Final = limits.MAX_DOCUMENT_BYTES
MAX_READERS: Final = 2  # maximum number of documents that are parsed at a time
MAX_REFERENCES: Final = 16  # longest chain of references that point to references
_THREAD_BYTES: Final = 16 * limits.KIB
_INDEX: Final = re.compile(r"[0-9]{1,9}")
VARIABLE: Final = re.compile(r"\{([^{}]+)\}")  # a variable in a path, an address, or the URL of a server

Fault = Callable[[str], TaskFault]  # makes the fault for a document that will not do
Operation = TypeVar("Operation")


class OperationCache(Generic[Operation]):
    """The operations of a process that documents describe; see `SharedResources`."""

    function: ClassVar[str]  # name of the function, for errors

    def __init__(self, _settings: RunnerSettings) -> None:
        self._operations: Cache[Operation] = Cache(seconds=KEPT_SECONDS, weight=KEPT_WEIGHT)
        self._readers = asyncio.Semaphore(MAX_READERS)

    async def close(self) -> None:
        """Do nothing: the cache holds nothing but memory."""

    async def get(
        self, document: Resource, key: str, find: Callable[[Any], tuple[Operation, int]], context: Context
    ) -> Operation:
        """Return what `find` extracts from a document, with its weight; `key` is all that this depends on besides it.

        Raises:
            TaskFault: the document can't be fetched, or will not do.
        """

        async def load() -> tuple[Operation, int]:
            content = await fetch(document, context, f"{self.function}: with.document.endpoint")

            def read() -> tuple[Operation, int]:
                return find(parse(content, self.fault))

            async with self._readers:
                return read() if len(content) < _THREAD_BYTES else await asyncio.to_thread(read)

        return await self._operations.get(fingerprint(document.model_dump(mode="json"), key), load)

    @classmethod
    def fault(cls, detail: str) -> TaskFault:
        return fault(Kind.CONFIGURATION, f"{cls.function}: {detail}")

    @classmethod
    def resolve(cls, root: Mapping[str, Any], node: Any) -> Mapping[str, Any]:
        """Return a node of a document, or the node that it refers to; empty if that is not an object.

        Raises:
            TaskFault: it refers to something outside of the document, to nothing, or in circles.
        """
        for _ in range(MAX_REFERENCES):
            reference = mapping(node).get("$ref")
            if not isinstance(reference, str):
                return mapping(node)
            node = _look_up(root, reference, cls.fault)
        raise cls.fault(f"references lead in circles, or from one to another more than {MAX_REFERENCES} times")


def parse(content: bytes, document_fault: Fault) -> Any:
    """Return a document as plain JSON. Blocking, for seconds if it is large.

    Raises:
        TaskFault: it is neither JSON nor YAML, or too large for YAML.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    if len(content) > MAX_YAML_BYTES:
        raise document_fault(
            f"the document is not JSON, and for YAML it is too large: more than {MAX_YAML_BYTES} bytes"
        )
    read = source.read(content)
    if read.data is None:
        problem = read.problems[0] if read.problems else None
        raise document_fault(f"the document is neither JSON nor YAML: {problem.cause if problem else 'it is empty'}")
    return read.data  # numeric keys, such as statuses, are reported as problems, but were converted to texts


def _look_up(root: Mapping[str, Any], reference: str, document_fault: Fault) -> Any:
    if not reference.startswith("#/"):
        raise document_fault(f"the reference {reference} leads out of the document, and is not followed")
    node: Any = root
    for token in pointer_tokens(reference[1:]):
        if isinstance(node, Mapping) and token in node:
            node = node[token]
        elif isinstance(node, list) and _INDEX.fullmatch(token) and int(token) < len(node):
            node = node[int(token)]
        else:
            raise document_fault(f"the reference {reference} leads nowhere")
    return node


def pointer_tokens(pointer: str) -> list[str]:
    """Return the tokens of a JSON Pointer, as it is written in the fragment of a URI."""
    return [token.replace("~1", "/").replace("~0", "~") for token in unquote(pointer).split("/")[1:]]


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
