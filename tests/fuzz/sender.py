"""Sends plans over many connections at a time, and checks the answers."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from typing import Final

from fuzz.answers import read_answers
from fuzz.drafts import Drafts, issued_paths
from fuzz.edges import KEYED, TLS, Edge
from fuzz.findings import Findings
from fuzz.plans import Plan, Plans

HANG_SECONDS: Final = 20.0
"""Time in which an edge has to end a connection that the sender has ended."""

FETCH_SECONDS: Final = 12.0
"""Time for which one request may make an edge wait for a publisher: for its key, then for a confirmation."""

CONNECTIONS: Final = 96
LEGITIMATE_5XX: Final = frozenset({501, 503, 505})
"""503 means that something is unavailable or full, the others that the request needs an unsupported feature."""

_ALERT: Final = b"\x15\x03"
"""Start of the answer of TLS to something else."""

_REASON: Final = re.compile(rb'"status":(5[0-9]{2}),"reason":"([A-Z_]+)"')
_RESET: Final = struct.pack("ii", 1, 0)


class Sender:
    """Sends until there are enough answers, the deadline has passed, or `stopped` is set."""

    def __init__(
        self,
        edges: Mapping[str, Edge],
        plans: Plans,
        drafts: Drafts,
        findings: Findings,
        *,
        context: ssl.SSLContext,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        """Send to `edges`, by name; `context` is for those with TLS."""
        self._edges = edges
        self._plans = plans
        self._drafts = drafts
        self._context = context
        self._hang_seconds = hang_seconds
        self.findings = findings
        self.stopped = False

    async def run(self, *, answers: int, deadline: float) -> None:
        """Send until there are `answers`, or until `deadline` (`time.monotonic()`)."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._send_on(answers, deadline))

    async def _send_on(self, answers: int, deadline: float) -> None:
        while not self.stopped and self.findings.answered < answers and time.monotonic() < deadline:
            await self.send(self._plans.next())

    async def send(self, plan: Plan) -> None:
        """Carry out a plan and record what comes of it."""
        found = self.findings
        found.made += plan.made
        found.connections[plan.edge] += 1
        found.uploads += plan.large
        try:
            received = await self.exchange(plan)
        except TimeoutError:
            found.fail(f"the {plan.edge} edge neither answers nor ends the connection", plan.sent)
        except OSError:  # an edge may reset a connection on which a refused request is still being sent
            found.resets += 1
        else:
            if plan.reset:
                found.cut += 1
            else:
                self._check(plan, received)

    async def exchange(self, plan: Plan) -> bytes:
        """Carry out a plan, and return all bytes that are received until the edge ends its side.

        Raises:
            TimeoutError: it does not end it.
            OSError: the connection was reset.
        """
        loop = asyncio.get_running_loop()
        patience = self._hang_seconds + (FETCH_SECONDS * plan.made if plan.edge == KEYED else 0)
        async with asyncio.timeout(patience):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.bind((plan.source, 0))
                await loop.sock_connect(sock, ("127.0.0.1", self._edges[plan.edge].port))
                if plan.preface:
                    await loop.sock_sendall(sock, plan.preface)
                transport, connection = await loop.create_connection(
                    _Connection, sock=sock, ssl=self._context if plan.secure else None,
                    server_hostname="127.0.0.1" if plan.secure else None,
                )  # fmt: skip
            except BaseException:
                sock.close()
                raise
            try:
                for piece in plan.pieces:
                    if transport.is_closing():  # the edge has ended it
                        break
                    transport.write(piece)
                    if len(plan.pieces) > 1:
                        await asyncio.sleep(0)
                if plan.reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    return b""
                if not plan.secure and not transport.is_closing():
                    transport.write_eof()
                await connection.ended
            finally:
                transport.abort()
        return bytes(connection.received)

    def _check(self, plan: Plan, received: bytes) -> None:
        found = self.findings
        if plan.edge == TLS and not plan.secure and received.startswith(_ALERT):
            return
        try:
            answers = read_answers(received)
        except ValueError as error:
            found.fail(f"{plan.edge}: {error}", plan.sent, received)
            return
        found.statuses.update(status for status in answers.statuses if status >= 200)
        bad = {status for status in answers.statuses if status >= 500} - LEGITIMATE_5XX
        if bad:
            found.fail(f"{plan.edge}: a server error {bad}", plan.sent, received)
        # a request has at least 18 bytes
        if answers.final > 1 + len(plan.sent) // 18:
            found.fail(f"{plan.edge}: more answers than requests", plan.sent, received)
        if plan.whole and answers.final != plan.made and not answers.closed:
            found.fail(f"{plan.edge}: {answers.final} answers to {plan.made} requests", plan.sent, received)
        for status, reason in _REASON.findall(received):
            found.reasons[f"{status.decode()} {reason.decode()}"] += 1
        if b"/replies/" in received or b"/approval/" in received:
            self._drafts.issued.extend(issued_paths(received))


class _Connection(asyncio.Protocol):
    """One connection: the received bytes, and `ended`, which is done when it has ended."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self._end(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
            self.ended.exception()  # retrieved, so that asyncio does not log it if nobody waits
