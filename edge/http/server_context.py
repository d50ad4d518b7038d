"""The interface of the HTTP server that its connections use: limits, response tails, clock and counters."""

from __future__ import annotations

from typing import Protocol

from tornado.httputil import HTTPConnection, HTTPMessageDelegate

from edge.http.receive_budget import ReceiveBudget
from edge.http.responses import Response


class ServerContext(Protocol):
    """State and limits that all connections of a server share.

    Attributes:
        header_timeout: seconds for a head.
        body_timeout: seconds for a body; see `edge.http.body_framing.BodyTime`.
        idle_timeout: seconds between two requests.
        keep_tail: end of a response head after which the connection persists: Date and the empty line.
        close_tail: the same, with `Connection: close`.
        draining: whether connections are to end after their current request.
        client_common_names: whether common names count in all certificates of senders; see `edge.http.peer`.
        budget: memory for incomplete heads and for what is read ahead.
    """

    header_timeout: float
    body_timeout: float
    idle_timeout: float
    keep_tail: bytes
    close_tail: bytes
    draining: bool
    client_common_names: bool
    budget: ReceiveBudget

    def now(self) -> float:
        """Return the loop's time in seconds."""
        ...

    def answered(self, response: Response) -> None:
        """Count a response that no delegate gave."""
        ...

    def count_incomplete(self) -> None:
        """Count a request whose sender disconnected before it was complete."""
        ...

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Return the delegate for a new request; see `HTTPServerConnectionDelegate`."""
        ...

    def on_close(self, server_conn: object) -> None:
        """Record that a connection has ended; see `HTTPServerConnectionDelegate`."""
        ...
