"""Reads many messages of a subject with one request ("batch direct get").

Any replica of the stream may answer, and one that is behind gives fewer messages, but none that is wrong.

Source: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md
"""

from __future__ import annotations

import contextlib
import json
from typing import Final, NamedTuple

import nats.errors
from nats.js.api import Header

from router.storage.commit_log.jetstream.connection import Connection

BATCH_MESSAGES: Final = 512
BATCH_BYTES: Final = 4 << 20
SILENCE_SECONDS: Final = 1.0


class StoredMessage(NamedTuple):
    """A message as a server has it. Anybody may have stored it."""

    position: int  # in its stream, from 1
    message_id: str  # by which the server looks for duplicates
    data: bytes
    purged: bool = False  # whether only its position is known


async def messages_after(connection: Connection, stream: str, subject: str, after: int) -> list[StoredMessage]:
    """Return some of the next messages after a position of the stream, in order; none if the replica has none."""
    request = {"seq": after + 1, "batch": BATCH_MESSAGES, "max_bytes": BATCH_BYTES, "next_by_subj": subject}
    found: list[StoredMessage] = []
    # those that have arrived are in order: whatever ends a batch early, the caller asks again for the rest
    with contextlib.suppress(nats.errors.Error, OSError, ValueError, KeyError):  # the last two: of made-up headers
        client = connection.client
        inbox = client.new_inbox()
        messages = await client.subscribe(inbox)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
            while True:
                message = await messages.next_msg(SILENCE_SECONDS)
                headers = message.headers or {}
                position = int(headers.get("Nats-Sequence", 0))
                # a message that names another before it than we have: one was lost on the way
                if not position or (found and int(headers["Nats-Last-Sequence"]) != found[-1].position):
                    break
                found.append(StoredMessage(position, headers.get(Header.MSG_ID, ""), message.data))
        finally:
            await messages.unsubscribe()
    return found
