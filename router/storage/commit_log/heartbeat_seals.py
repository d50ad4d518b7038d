"""Authenticates heartbeats: which router sent one, and that it did so just now. No I/O, no clock.

A heartbeat names the address of an owner, to which clients send their tokens, and silence decides who claims the shard.
So nobody may be able to send one who can only reach the servers of the log, and none counts a second time.

- *Who*: a message authentication code under a key that is derived from the key of secrets.
- *Once*: each process has a nonce and counts its heartbeats. One that does not count higher than the last is dropped,
  and so is one of a process that another of that name has followed.
- *Now*: a router that has just started knows no counter yet, and clocks may differ. So each heartbeat also names the
  processes that its sender hears, and a process is believed only once it has named the receiver's: nothing that was
  recorded before the receiver started can. From then on the counter suffices.

      B starts        B -> all   "B, process 7f, heartbeat 1, hears nobody"
      A hears it      A -> all   "A, process 31, heartbeat 812, hears 7f"     B believes A: it named 7f
      B hears that    B -> all   "B, process 7f, heartbeat 2, hears 31"       A believes B

What can't be prevented is that heartbeats are held back; they can be delivered late only as long as no later one has
been, so that this hides the death of a router for no longer than its silence would have been noticed before.

Source: RFC 2104 (HMAC), with SHA-256, truncated to 16 bytes (section 5).
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from router.storage.commit_log.seals import KEY_ID_BYTES, PurposeKeys

TAG_BYTES: Final = 16
PROCESS_BYTES: Final = 8
MOST_HEARD: Final = 64  # most processes that a heartbeat names; those that were heard last
MOST_ROUTERS: Final = 256  # most routers that are remembered; the one that was silent longest makes room
MOST_RETIRED: Final = 64  # most former processes of a router that are remembered
REPEATED: Final = 4
"""A heartbeat that is so little older than the last one was sent twice by a connection that broke, not by an attacker.
It is dropped as well, without an alarm."""

_HEADER: Final = struct.Struct(f">{KEY_ID_BYTES}s{PROCESS_BYTES}sQBB")
"""Key ID, process, counter, number of processes that follow, length of the router's name behind them."""


class Heartbeat(NamedTuple):
    """An authentic heartbeat."""

    content: bytes  # what the router announced
    live: bool  # whether it was certainly sent while this process ran; until then it proves that the router has run
    greeting: bool  # whether its process was unknown: it is to be told soon that it is heard


class HeartbeatRefusedError(Exception):
    """A message is no heartbeat of that router, or not a new one; `suspicious`: somebody forged or recorded it."""

    def __init__(self, cause: str, *, suspicious: bool = True) -> None:
        super().__init__(cause)
        self.suspicious = suspicious


@dataclass(slots=True)
class _Router:
    """A process is known once it was live.

    `heard`: the process that was heard last, which need not be live. `retired`: those before `process`.
    """

    process: bytes = b""
    counter: int = 0
    heard: bytes = b""
    retired: deque[bytes] = field(default_factory=lambda: deque(maxlen=MOST_RETIRED))


class HeartbeatSeals:
    """Seals the heartbeats of this process, and opens those of others; on one thread.

    `keys`: for heartbeats, in the context of the log's identity. `router`: name of this router.
    """

    def __init__(self, keys: PurposeKeys, router: str) -> None:
        self._keys = keys
        self._router = router.encode()
        self._process = secrets.token_bytes(PROCESS_BYTES)
        self._counter = 0
        self._routers: dict[str, _Router] = {}  # in the order in which they were heard last

    def seal(self, content: bytes) -> bytes:
        self._counter += 1
        heard = [router.heard for router in self._routers.values()][-MOST_HEARD:]
        header = _HEADER.pack(self._keys.newest, self._process, self._counter, len(heard), len(self._router))
        body = b"".join((header, *heard, self._router, content))
        return _tag(self._keys.by_id[self._keys.newest], body) + body

    def open(self, router: str, message: bytes) -> Heartbeat | None:
        """Return a heartbeat that came under the name of a router; None: it is one of this process.

        Raises HeartbeatRefusedError for one that counts as silence.
        """
        process, counter, heard, content = self._parse(router, message)
        if process == self._process:
            return None
        known = self._routers.pop(router, None) or _Router()
        self._routers[router] = known
        if len(self._routers) > MOST_ROUTERS:
            del self._routers[next(iter(self._routers))]
        if process == known.process:
            if counter <= known.counter:
                raise HeartbeatRefusedError("it is repeated", suspicious=counter <= known.counter - REPEATED)
            known.counter, known.heard = counter, process
            return Heartbeat(content, live=True, greeting=False)
        if process in known.retired:
            raise HeartbeatRefusedError("it is repeated: that router was started again since")
        greeting = process != known.heard
        known.heard = process
        if self._process not in heard:
            return Heartbeat(content, live=False, greeting=greeting)
        if known.process:
            known.retired.append(known.process)
        known.process, known.counter = process, counter
        return Heartbeat(content, live=True, greeting=greeting)

    def _parse(self, router: str, message: bytes) -> tuple[bytes, int, set[bytes], bytes]:
        tag, body = message[:TAG_BYTES], message[TAG_BYTES:]
        key = self._keys.by_id.get(body[:KEY_ID_BYTES])
        if key is None or not hmac.compare_digest(tag, _tag(key, body)):
            raise HeartbeatRefusedError("no router of this log has sent it")
        _, process, counter, number, length = _HEADER.unpack_from(body)
        start = _HEADER.size
        name = start + number * PROCESS_BYTES
        if body[name : name + length] != router.encode():
            raise HeartbeatRefusedError("another router has sent it")
        heard = {body[each : each + PROCESS_BYTES] for each in range(start, name, PROCESS_BYTES)}
        return process, counter, heard, body[name + length :]


def _tag(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:TAG_BYTES]
