"""Small values on which all routers agree, in a bucket of JetStream's key-value store."""

from __future__ import annotations

import contextlib

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError, ServiceUnavailableError

from router.storage.commit_log.jetstream.connection import Connection


class JetStreamFacts:
    """A key-value bucket."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self._bucket = bucket

    def agree(self, name: str, value: str) -> str:
        """See the protocol."""
        return self._connection.call(self._connection.persist(lambda: self._agree(name, value)))

    def replace(self, name: str, value: str) -> None:
        """See the protocol."""
        self._connection.call(self._connection.persist(lambda: self._replace(name, value)))

    async def _replace(self, name: str, value: str) -> None:
        bucket = await self._connection.jetstream.key_value(self._bucket)
        await bucket.put(name, value.encode())

    async def _agree(self, name: str, value: str) -> str:
        stream, key = f"KV_{self._bucket}", f"$KV.{self._bucket}.{name}"
        bucket = await self._connection.jetstream.key_value(self._bucket)
        with contextlib.suppress(KeyWrongLastSequenceError, KeyNotFoundError):
            # create-if-absent; one whose answer was lost is found below by the next attempt
            await bucket.create(name, value.encode())
            return value
        try:
            # from the leader: another replica may not have it yet
            found = await self._connection.jetstream.get_last_msg(stream, key)
        except NotFoundError:
            # the leader refuses for the sake of another router's that has no quorum yet
            raise ServiceUnavailableError from None
        return (found.data or b"").decode()
