"""`/executions/stream`: the first page of the list of executions as server-sent events, one for each change.

The list is read again at fixed times rather than at each change of an execution: thousands change in a second of a busy
cluster, and what a page in a browser costs must not grow with that.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import http
from typing import Final

from admin.console import rendering
from admin.console.executions import read_filters
from admin.console.page import Page
from admin.operations.executions import ExecutionList, ExecutionPage
from admin.operations.table import LIST_EXECUTIONS
from flowhook.errors import ExhaustedError, FlowhookError, UnauthenticatedError, UnavailableError

INTERVAL_SECONDS: Final = 0.5
"""Time between two looks at the list; at most so many events are sent."""

REFRESH_SECONDS: Final = 30.0
"""Time after which rows that did not change are sent again, so that their ages are right."""

MAX_STREAMS: Final = 32
"""Streams that are open at a time."""


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
        streams = self.context.streams
        if len(streams) >= MAX_STREAMS:
            raise ExhaustedError(f"{MAX_STREAMS} live lists are open: close one", reason="TOO_MANY_STREAMS")
        streams.add(self)
        try:
            await self._send_changes(filters)
        finally:
            streams.discard(self)

    async def _send_changes(self, filters: ExecutionList) -> None:
        loop = asyncio.get_running_loop()
        shown: ExecutionPage | None = None
        sent_at = 0.0
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("X-Accel-Buffering", "no")  # nginx would collect events
        while not self._closed.is_set():
            try:
                self.authenticate()  # it may have expired, or ended elsewhere
                async with self.router() as client:
                    page = await LIST_EXECUTIONS.run(client, filters)
            except UnavailableError:
                if shown is None:
                    raise
                page = shown
            if page != shown or loop.time() - sent_at >= REFRESH_SECONDS:
                self.write(_event(rendering.render("execution_rows.html", page=page)))
                await self.flush()
                shown, sent_at = page, loop.time()
            try:
                await asyncio.wait_for(self._closed.wait(), INTERVAL_SECONDS)
            except TimeoutError:
                continue

    def finish_error(self, error: FlowhookError) -> None:
        """End a stream that has begun; refuse one that has not with a status that no page follows."""
        if self._headers_written:
            self.finish()
        elif isinstance(error, UnauthenticatedError):
            self.set_status(http.HTTPStatus.UNAUTHORIZED)
            self.finish()
        else:
            super().finish_error(error)


def _event(text: str) -> str:
    """Return an event with a text of several lines."""
    return "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
