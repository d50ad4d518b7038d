"""Somebody who may use the servers of the log, and has no key: reads, stores and removes what they like."""

from __future__ import annotations

from contextlib import asynccontextmanager

import nats


class LogAttacker:
    """Attributes:
    jetstream: the API of JetStream.
    """

    def __init__(self, client, prefix):
        self.client = client
        self.jetstream = client.jetstream()
        self._prefix = prefix
        self._stream = f"{prefix}_LOG_0"

    async def subject(self):
        return (await self.jetstream.stream_info(self._stream)).config.subjects[0]

    async def record(self, position):
        """Return a record as it is stored: data and headers."""
        return await self.jetstream.get_msg(self._stream, position)

    async def last(self):
        return await self.jetstream.get_last_msg(self._stream, await self.subject())

    async def append(self, data, message_id=""):
        """Store a record at the end, as soon as it is one; return its position."""
        while True:
            headers = {"Nats-Msg-Id": message_id} if message_id else {}
            headers["Nats-Expected-Last-Sequence"] = str(
                (await self.jetstream.stream_info(self._stream)).state.last_seq
            )
            try:
                return (await self.jetstream.publish(await self.subject(), data, headers=headers)).seq
            except nats.js.errors.BadRequestError:  # the owner was faster
                continue

    async def bodies(self):
        """Return everything that is stored, in all streams of the cluster."""
        found = []
        for info in await self.jetstream.streams_info():
            if self._prefix in info.config.name:
                for position in range(info.state.first_seq, info.state.last_seq + 1):
                    try:
                        message = await self.jetstream.get_msg(info.config.name, position)
                    except nats.js.errors.NotFoundError:  # it was removed
                        continue
                    found.append(message.data or b"")
        return found

    async def put_object(self, name, data):
        store = await self.jetstream.object_store(f"{self._prefix}_OBJECTS")
        await store.put(name, data)

    async def remove_objects(self):
        await self.jetstream.purge_stream(f"OBJ_{self._prefix}_OBJECTS")

    async def delete_log(self):
        await self.jetstream.delete_stream(self._stream)

    async def delete_facts(self):
        await self.jetstream.delete_key_value(f"{self._prefix}_FACTS")

    async def facts(self):
        """Return the names of all facts."""
        bucket = f"{self._prefix}_FACTS"  # its stream is asked: keys() of the library finds none now and then
        info = await self.jetstream.stream_info(f"KV_{bucket}", subjects_filter=">")
        return [subject.removeprefix(f"$KV.{bucket}.") for subject in info.state.subjects]

    async def remove_fact(self, name):
        await (await self.jetstream.key_value(f"{self._prefix}_FACTS")).delete(name)

    async def fact(self, name):
        return (await (await self.jetstream.key_value(f"{self._prefix}_FACTS")).get(name)).value.decode()

    async def store_fact(self, name, value):
        await (await self.jetstream.key_value(f"{self._prefix}_FACTS")).put(name, value.encode())


@asynccontextmanager
async def log_attacker(server, url):
    client = await nats.connect(server.address, user="flowhook", password="secret")
    try:
        yield LogAttacker(client, url.partition("prefix=")[2].partition("&")[0])
    finally:
        await client.close()
