"""`/executions/stream`: the first page of the list of executions as server-sent events, one for each change.

The list is read again at fixed times rather than at each change of an execution: thousands change in a second of a busy
cluster, and what a page in a browser costs must not grow with that.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import http
from typing import TYPE_CHECKING, Final, cast

from tornado.iostream import StreamClosedError

from admin.console import rendering
from admin.console.executions import read_filters, row_values
from admin.console.page import Page
from admin.operations.execution_list import ExecutionList, ExecutionPage
from admin.operations.table import LIST_EXECUTIONS
from admin.signed_in_handler import COOKIE
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from tornado.http1connection import HTTP1Connection

INTERVAL_SECONDS: Final = 0.5
"""Time between two looks at the list; at most so many events are sent."""

PAUSE_FACTOR: Final = 4
"""Such a multiple of the time that a look takes passes before the next one: conditions without an index take long."""

REFRESH_SECONDS: Final = 30.0
"""Time after which rows that did not change are sent again, so that their ages are right."""

ENDED: Final = "ended"
"""Event after which the page asks for no further ones: its session has ended."""

MAX_STREAMS: Final = 32
"""Streams that are open at a time."""

MAX_SESSION_STREAMS: Final = 8
"""Streams of one session that are open at a time: browsers open six to a server that speaks HTTP/1.1."""

SEND_SECONDS: Final = 30.0
"""Time within which a client must receive an event; else its connection is closed."""


class ExecutionStream(Page):
    """`/executions/stream`."""

    SUPPORTED_METHODS = ("GET",)
    section = "executions"

    def prepare(self) -> None:
        """Check the credentials; make the stream end when the connection is closed."""
        self._closed = asyncio.Event()
        super().prepare()

    def on_connection_close(self) -> None:
        """End the stream."""
        super().on_connection_close()
        self._closed.set()

    async def show(self, *_values: str) -> None:
        """Send the rows, and again whenever they change."""
        filters = read_filters(self.query())
        if filters.jq:
            raise InvalidError("a list with a jq condition does not update by itself", reason="PARAMETER_INVALID")
        streams = self.context.streams
        if len(streams) >= MAX_STREAMS:
            raise ExhaustedError(f"{MAX_STREAMS} live lists are open: close one", reason="TOO_MANY_STREAMS")
        if sum(session is self.session for session in streams.values()) >= MAX_SESSION_STREAMS:
            raise ExhaustedError(
                f"{MAX_SESSION_STREAMS} live lists of this session are open: close one", reason="TOO_MANY_STREAMS"
            )
        streams[self] = self.session
        try:
            await self._send_changes(filters)
        finally:
            del streams[self]

    async def _send_changes(self, filters: ExecutionList) -> None:
        loop = asyncio.get_running_loop()
        shown: ExecutionPage | None = None
        sent_at = 0.0
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("X-Accel-Buffering", "no")  # nginx would collect events
        while not self._closed.is_set():
            began = loop.time()
            try:
                self.check_session()
                async with self.router() as client:
                    page = await LIST_EXECUTIONS.run(client, filters)
            except UnavailableError:
                if shown is None:
                    raise
                page = shown
            if page != shown or loop.time() - sent_at >= REFRESH_SECONDS:
                await self._send(
                    _event(rendering.render("execution_rows.html", page=page, **row_values(filters, page)))
                )
                shown, sent_at = page, loop.time()
            try:
                pause = max(INTERVAL_SECONDS, PAUSE_FACTOR * (loop.time() - began))
                await asyncio.wait_for(self._closed.wait(), pause)
            except TimeoutError:
                continue

    def check_session(self) -> None:
        """Check that the session has not ended. This does not count as a use of it: nobody asked for anything.

        Raises:
            UnauthenticatedError: it has.
        """
        session_id = self.get_cookie(COOKIE, "") or ""
        if self.context.sessions.find(session_id, self.context.clock(), use=False) is not self.session:
            raise UnauthenticatedError("the session has ended", reason="SESSION_MISSING")

    async def _send(self, text: str) -> None:
        """Send an event. A client that does not receive it is disconnected: it would occupy a stream for ever."""
        self.write(text)
        try:
            await asyncio.wait_for(self.flush(), SEND_SECONDS)
        except TimeoutError:
            cast("HTTP1Connection", self.request.connection).stream.close()
            raise StreamClosedError from None

    def finish_error(self, error: FlowhookError) -> None:
        """End a stream that has begun; refuse one that has not with a status that no page follows."""
        if self._headers_written:
            if isinstance(error, UnauthenticatedError):
                self.write(_event(rendering.render("session_ended.html")) + f"event: {ENDED}\ndata:\n\n")
            self.finish()
        elif isinstance(error, UnauthenticatedError):
            self.set_status(http.HTTPStatus.UNAUTHORIZED)
            self.finish()
        else:
            super().finish_error(error)


def _event(text: str) -> str:
    """Return an event with a text of several lines."""
    return "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
