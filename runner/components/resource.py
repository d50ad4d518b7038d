"""External resources that describe a call and are fetched before it: a .proto, a document of OpenAPI or AsyncAPI.

A document of an API is parsed to plain JSON, and searched for one operation. It is untrusted input: the type of every
value in it is checked, and references may only point into the document itself.

Source: dsl-reference.md, "External Resource", "Endpoint"; RFC 6901, section 6 (JSON Pointer in a URI).
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, ClassVar, Final, Generic, TypeVar
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

import orjson
from cachetools import TTLCache

from flowhook import limits
from flowhook.document.diagnostics import source
from flowhook.document.models.calls import EMBEDDED, ExternalResource
from flowhook.process.settings import RunnerSettings
from runner.components import http
from runner.components.base import Context
from runner.components.http import EvaluatedEndpoint
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.json_codec import encode
from runner.outbound.http_response import ResponseTooLargeError

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
Value = TypeVar("Value")


def fingerprint(*parts: Any) -> bytes:
    """Return a cache key for JSON that may hold credentials: a hash, so that the cache does not retain them."""
    return hashlib.sha256(encode(parts)).digest()


class Cache(Generic[Value]):
    """Values by key; one caller at a time loads a value, while others that need it wait.

    A value lives for `seconds`; above `weight`, the least recently used ones are evicted.
    """

    def __init__(self, *, seconds: float, weight: int) -> None:
        self._entries: TTLCache[Hashable, tuple[Value, int]] = TTLCache(
            weight, seconds, timer=time.monotonic, getsizeof=lambda entry: entry[1]
        )
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: Hashable, load: Callable[[], Awaitable[tuple[Value, int]]]) -> Value:
        """Return the value of a key, which covers all that it depends on, credentials included; see `fingerprint`.

        `load` returns the value and its weight, which is at most that of the cache; exceptions are not cached.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # its last holder may have loaded the value
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = await load()
        return entry[0]


class Resource(ExternalResource):
    """An external resource, evaluated."""

    endpoint: str | EvaluatedEndpoint

    @property
    def uri(self) -> str:
        return self.endpoint if isinstance(self.endpoint, str) else self.endpoint.uri


async def fetch(resource: Resource, context: Context, place: str) -> bytes:
    """Return the content of a resource, at most `limits.MAX_RESULT_BYTES`; redirects are followed.

    `place` is the path of its endpoint in the arguments, for errors.

    The request does not carry the call's Idempotency-Key: a server that receives both requests would treat the call as
    a repetition.
    """
    if resource.uri.startswith(EMBEDDED):
        text = resource.uri.removeprefix(EMBEDDED)
        try:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            raise fault(Kind.CONFIGURATION, f"{place}: what follows {EMBEDDED} is not in base64url") from None
    scheme = urlsplit(resource.uri).scheme.lower()
    if scheme == "file":
        raise fault(Kind.CONFIGURATION, f"{place}: files of a runner are not read: serve the document over https")
    policy = None if isinstance(resource.endpoint, str) else resource.endpoint.authentication
    keyless = dataclasses.replace(context, http=context.http.without_key())
    try:
        response = await http.send("GET", resource.uri, keyless, headers={}, authentication=policy, redirect=True)
    except ResponseTooLargeError as problem:  # a retry would change nothing
        raise fault(Kind.CONFIGURATION, f"{place}: {problem}") from None
    return response.body


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
