"""A second connection, for appends alone: the thread that appends writes the record and reads the answer by itself.

Over the shared connection an append changes threads twice and takes about ten iterations of an event loop, each of
which waits for the interpreter's lock while the router is busy. Here it waits for the lock twice.

An answer counts only if a server gave it to this very request. Whatever else happens, the shared connection finds out
what came of the record (`append`). Connections that log in with a credentials file have no such shortcut, and
`appends=shared` in the URL of the log turns it off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import socket
import ssl
import struct
import threading
import time
from typing import Any, Final, NamedTuple

from router.storage.commit_log.jetstream.connection import Connection

CONNECT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 1.0
"""How long an answer is waited for."""
SLICE_SECONDS: Final = 0.05
"""How often a waiting caller looks whether it shall stop."""
READ_BYTES: Final = 65_536
MAX_LINE_BYTES: Final = 1 << 20
"""Limit of a control line of a server; the longest, INFO, names the servers of the cluster."""
MAX_MESSAGE_BYTES: Final = 1 << 20
"""Limit of a message that a server delivers: an answer to an append has less than 200 bytes."""
IDLE_SECONDS: Final = 60.0
"""A connection that was not used for so long is replaced: nobody answers the server's pings on it meanwhile."""
_MESSAGE: Final = re.compile(rb"H?MSG (?P<subject>\S+) \S+( \S+)*? (?P<size>[0-9]{1,9})")
"""MSG <subject> <sid> [reply-to] <size>; HMSG has the size of the headers before that of everything."""
NO_RESPONDERS: Final = b"NATS/1.0 503"
"""Begins the answer of a server to a request for which there is no receiver."""


class AppendAttempt(NamedTuple):
    """What came of a request.

    Attributes:
        sent: whether a server may have received it.
        answer: what was answered; None: nothing was, as far as is known; empty: nobody receives such messages.
    """

    sent: bool
    answer: bytes | None


NOT_SENT: Final = AppendAttempt(sent=False, answer=None)


class AppendConnection:
    """The connection, once there is one; `request` and `publish` are for one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._link: _Link | None = None
        self._next: _Link | None = None
        self._sought: str | None = None
        self._names: dict[str, str] = {}
        self._busy = False
        self._closed = False
        self._used = 0.0

    @property
    def ready(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._next is not None or self._link is not None

    def request(
        self, subject: str, headers: dict[str, str], data: bytes, *, stop: threading.Event | None = None
    ) -> AppendAttempt:
        """Send a message and wait for the answer, until `stop` is set or the connection closed."""
        link = self._take()
        if link is None:
            return NOT_SENT
        answer: bytes | None = None
        sent = len(data) <= link.max_payload
        try:
            if sent:
                link.send(subject, headers, data)
                answer = self._wait(link, stop)
        except (OSError, ValueError):
            answer = None
        self._give_back(link, broken=sent and answer is None)
        return AppendAttempt(sent, answer)

    def publish(self, subject: str, data: bytes) -> bool:
        """Send a message that nobody answers; whether it was sent, as far as is known."""
        link = self._take()
        if link is None:
            return False
        broken = False
        try:
            link.write(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(data), data))
        except OSError:
            broken = True
        self._give_back(link, broken=broken)
        return not broken

    async def renew(self, leader: str) -> None:
        """Connect if there is no connection, or to the leader of the stream (its server's name; empty: unknown)."""
        if self._connection.login is None or not self._connection.url.append_connection:
            return
        fresh = self.ready and time.monotonic() - self._used < IDLE_SECONDS
        if not fresh or leader not in ("", self._sought):
            await asyncio.to_thread(self._open, leader)

    def close(self) -> None:
        """Disconnect for good; a request in progress ends soon. Idempotent."""
        with self._lock:
            self._closed = True
            link, self._link = self._link, None
            if link and self._busy:
                link.shutdown()
            elif link:
                link.close()
            if self._next:
                self._next.close()
            self._next = None

    def _take(self) -> _Link | None:
        with self._lock:
            if self._next:
                if self._link:
                    self._link.close()
                self._link, self._next = self._next, None
            self._busy = self._link is not None
            return self._link

    def _give_back(self, link: _Link, *, broken: bool) -> None:
        self._used = time.monotonic()
        with self._lock:
            self._busy = False
            if broken:
                self._link = None
            if broken or self._closed:
                link.close()

    def _wait(self, link: _Link, stop: threading.Event | None) -> bytes | None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while (answer := link.receive()) is None and time.monotonic() < deadline:
            if self._closed or (stop and stop.is_set()):
                break
        return answer

    def _open(self, leader: str) -> None:
        found: _Link | None = None
        for address in sorted(
            self._connection.url.servers, key=lambda each: self._names.get(each, leader) == leader, reverse=True
        ):
            with contextlib.suppress(OSError, ValueError, KeyError):
                link = _Link(address, self._connection)
                self._names[address] = link.server
                if found:
                    found.close()
                found = link
                if leader in ("", link.server):
                    break
        with self._lock:
            self._sought = leader if found else None
            self._used = time.monotonic()
            if found and self._closed:
                found.close()
            elif found:
                if self._next:
                    self._next.close()
                self._next = found


class ServerMessage(NamedTuple):
    """A message that a server delivered: its subject, and its headers and payload as they came."""

    subject: bytes
    content: bytes


class ServerReader:
    """Cuts the bytes of a server into messages and control lines. Pure; holds at most one of them and what follows.

    Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
    """

    def __init__(self) -> None:
        self._received = b""

    def feed(self, data: bytes) -> None:
        """Add bytes that were received."""
        self._received += data

    def clear(self) -> None:
        """Forget what was received."""
        self._received = b""

    def next(self) -> ServerMessage | bytes | None:
        """Return the next message, or the next control line without its end; None: it has not arrived as a whole.

        Raises:
            ConnectionError: this is no server of NATS, or it sends more than it may.
        """
        line, end, rest = self._received.partition(b"\r\n")
        if len(line) > MAX_LINE_BYTES:
            raise ConnectionError("the server sends a line that is too long")
        if not end:
            return None
        if not line.startswith((b"MSG ", b"HMSG ")):
            self._received = rest
            return line
        fields = _MESSAGE.fullmatch(line)
        if fields is None or (size := int(fields["size"])) > MAX_MESSAGE_BYTES:
            raise ConnectionError("the server announces a message of no size that it may have")
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise ConnectionError("the server's message is longer than it announced")
        self._received = rest[size + 2 :]
        return ServerMessage(fields["subject"], rest[:size])


class _Link:
    """A blocking connection to one server, which has logged in."""

    def __init__(self, address: str, connection: Connection) -> None:
        host, _, port = address.rpartition(":")
        self._socket: socket.socket = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader = ServerReader()
            info: dict[str, Any] = json.loads(self._line().removeprefix(b"INFO "))
            self.server = str(info.get("server_name", ""))
            self.max_payload = int(info["max_payload"])
            if connection.tls is not None:
                self._reader.clear()  # nothing that was not encrypted counts
                self._socket = connection.tls.wrap_socket(self._socket, server_hostname=host.strip("[]"))
            self._inbox = f"_INBOX.{secrets.token_hex(16)}."
            self._number = 0
            options = {
                "verbose": False, "pedantic": False, "lang": "python", "version": "1", "protocol": 1, "headers": True,
                "no_responders": True, "name": f"{connection.name} appending", **(connection.login or {}),
            }  # fmt: skip
            self.write(b"CONNECT %s\r\nSUB %s* 1\r\nPING\r\n" % (json.dumps(options).encode(), self._inbox.encode()))
            while (line := self._line()) != b"PONG":
                self._obey(line)
            # kernel timeouts: Python's own would cost two more calls for each read
            self._socket.settimeout(None)
            self._set_timeout(socket.SO_SNDTIMEO, ANSWER_SECONDS)
            self._set_timeout(socket.SO_RCVTIMEO, SLICE_SECONDS)
        except BaseException:
            self._socket.close()
            raise

    def send(self, subject: str, headers: dict[str, str], data: bytes) -> None:
        """Send a message, the answer to which `receive` returns."""
        self._number += 1
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"NATS/1.0\r\n{head}\r\n"
        command = f"HPUB {subject} {self._inbox}{self._number} {len(head)} {len(head) + len(data)}\r\n{head}"
        self.write(b"%s%s\r\n" % (command.encode(), data))

    def receive(self) -> bytes | None:
        """Return the answer to what was sent last; None: none has arrived within `SLICE_SECONDS`.

        Empty: as in `AppendAttempt`.

        Raises:
            OSError: there will be none.
        """
        while True:
            while (received := self._reader.next()) is None:
                if not self._read():
                    return None
            if isinstance(received, bytes):
                self._obey(received)
            # a late answer, to an append that was given up, has another number
            elif received.subject == f"{self._inbox}{self._number}".encode():
                return b"" if received.content.startswith(NO_RESPONDERS) else received.content

    def write(self, data: bytes) -> None:
        """Write bytes."""
        self._socket.sendall(data)

    def shutdown(self) -> None:
        """End the connection, from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()

    def _set_timeout(self, option: int, seconds: float) -> None:
        microseconds = round(seconds * 1e6)
        self._socket.setsockopt(
            socket.SOL_SOCKET, option, struct.pack("ll", microseconds // 1_000_000, microseconds % 1_000_000)
        )

    def _read(self) -> bool:
        """Read what has arrived; false: nothing has within the timeout.

        Raises:
            OSError: the connection has ended.
        """
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return False
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        self._reader.feed(data)
        return True

    def _line(self) -> bytes:
        """Return the next line, while the connection is made: reading has a timeout, and no message can come."""
        while (received := self._reader.next()) is None:
            self._read()
        if isinstance(received, ServerMessage):
            raise ConnectionError("the server sends messages before the login")
        return received

    def _obey(self, line: bytes) -> None:
        """Answer a ping; anything but an error is of no interest.

        Raises:
            OSError: the server reports an error.
        """
        if line == b"PING":
            self.write(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            raise ConnectionError(line.decode(errors="replace"))
