"""Small values on which all routers agree, in a bucket of JetStream's key-value store."""

from __future__ import annotations

import contextlib

import attrs
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError, ServiceUnavailableError
from typing_extensions import override

from flowhook.errors import ConflictError
from router.storage.commit_log.interface import ClusterFacts
from router.storage.commit_log.jetstream.connection import LogConnection
from router.storage.commit_log.refusals import Refusals, RefusedKind
from router.storage.commit_log.seals import FORGED, FactSeals


@attrs.define(eq=False, repr=False)
class JetStreamFacts(ClusterFacts):
    """A key-value bucket."""

    _connection: LogConnection
    _bucket: str
    _seals: FactSeals
    _refusals: Refusals

    @override
    def get(self, name: str) -> str | None:
        stored = self._connection.call(self._connection.persist(lambda: self._stored(name)))
        return None if stored is None else self._opened(name, stored)

    @override
    def agree(self, name: str, value: str) -> str:
        sealed = self._seals.seal(name, value)
        return self._opened(name, self._connection.call(self._connection.persist(lambda: self._agree(name, sealed))))

    @override
    def replace(self, name: str, value: str) -> None:
        sealed = self._seals.seal(name, value)

        async def put() -> None:
            await (await self._connection.jetstream.key_value(self._bucket)).put(name, sealed.encode())

        self._connection.call(self._connection.persist(put))

    def _opened(self, name: str, stored: str) -> str:
        try:
            return self._seals.open(name, stored)
        except ConflictError as error:
            if error.reason == FORGED:
                self._refusals.add(RefusedKind.FACT, name, "it was not stored by a router")
            raise

    async def _agree(self, name: str, value: str) -> str:
        bucket = await self._connection.jetstream.key_value(self._bucket)
        with contextlib.suppress(KeyWrongLastSequenceError, KeyNotFoundError):
            # create-if-absent; one whose answer was lost is found below by the next attempt
            await bucket.create(name, value.encode())
            return value
        stored = await self._stored(name)
        if stored is None:  # the leader refuses for the sake of another router's that has no quorum yet
            raise ServiceUnavailableError
        return stored

    async def _stored(self, name: str) -> str | None:
        """Return what the leader has: another replica may not have it yet."""
        try:
            found = await self._connection.jetstream.get_last_msg(f"KV_{self._bucket}", f"$KV.{self._bucket}.{name}")
        except NotFoundError:
            return None
        return (found.data or b"").decode("utf-8", "replace") or None  # empty: it was deleted
