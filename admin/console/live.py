"""Live lists: the first page of a list as server-sent events, one for each change.

The list is read again at fixed times rather than at each change of an execution: thousands change in a second of a busy
cluster, and what a page in a browser costs must not grow with that.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from admin.console import rendering
from admin.console.executions import LIVE, read_filters, row_values
from admin.console.page import Page
from admin.signed_in_handler import COOKIE
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError, InvalidError, UnauthenticatedError, UnavailableError
from operations.execution_list import ExecutionList
from operations.table import LIST_EXECUTIONS

INTERVAL_SECONDS: Final = 0.5  # time between two looks at the list of executions
# such a multiple of the time that a look takes passes before the next one: conditions without an index take long
PAUSE_FACTOR: Final = 4
LOAD_SECONDS: Final = 5.0  # time after which a look that has no result counts as one at a router that does not answer
REFRESH_SECONDS: Final = 30.0  # time after which rows that did not change are sent again, so that their ages are right
ENDED: Final = "ended"  # event after which the page asks for no further ones: its session has ended
AWAY: Final = "event: away\ndata:\n\n"  # sent instead of the rows while the router does not answer


def read_live(query: dict[str, list[str]]) -> bool:
    """Remove `live` from the parameters of a page's URL, and return whether the page shall update itself.

    Raises:
        InvalidError: it is neither `on` nor `off`.
    """
    value = query.pop(LIVE, ["on"])[0]
    if value not in ("on", "off"):
        raise InvalidError("live: write on or off", reason="PARAMETER_INVALID")
    return value == "on"


class LiveStream(Page):
    """Base class of the streams: subclasses say what is read and shown.

    Attributes:
        template: it renders the rows.
        interval: seconds between two looks at the list; at most so many events are sent.
    """

    SUPPORTED_METHODS = ("GET",)
    is_part = True
    patience = None  # it ends when its reader leaves
    template = ""
    interval = INTERVAL_SECONDS

    def conditions(self) -> Any:
        """Return the conditions that the parameters of the URL name; subclasses override this.

        Raises:
            InvalidError: there is no such parameter, or no such value.
        """
        raise NotImplementedError

    async def load(self, client: AsyncClient, conditions: Any) -> Any:
        """Return the values for the template, by name; subclasses override this.

        Raises:
            FlowhookError: the router does not answer.
        """
        raise NotImplementedError

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
        conditions = self.conditions()
        with self.context.live_lists.acquire(self.principal):
            self.context.streams.add(self)
            try:
                await self._send_changes(conditions)
            finally:
                self.context.streams.discard(self)

    async def _send_changes(self, conditions: Any) -> None:
        loop = asyncio.get_running_loop()
        shown: dict[str, Any] | None = None
        sent_at = 0.0
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("X-Accel-Buffering", "no")  # nginx would collect events
        while not self._closed.is_set():
            began = loop.time()
            values = await self._load(conditions)
            if not sent_at or values != shown or loop.time() - sent_at >= REFRESH_SECONDS:
                await self._send(AWAY if values is None else _event(rendering.render(self.template, **values)))
                shown, sent_at = values, loop.time()
            try:
                pause = max(self.interval, PAUSE_FACTOR * (loop.time() - began))
                async with asyncio.timeout(pause):
                    await self._closed.wait()
            except TimeoutError:
                continue

    async def _load(self, conditions: Any) -> dict[str, Any] | None:
        """Return what `load` does; None: the router does not answer."""
        self.check_session()
        try:
            async with asyncio.timeout(LOAD_SECONDS), self.router() as client:
                values: dict[str, Any] = await self.load(client, conditions)
        except (TimeoutError, UnavailableError):
            return None
        return values

    def check_session(self) -> None:
        """Check that the session has not ended. This does not count as a use of it: nobody asked for anything.

        Raises:
            UnauthenticatedError: it has.
        """
        session_id = self.get_cookie(COOKIE, "") or ""
        if self.context.sessions.find(session_id, self.context.clock(), use=False) is not self.session:
            raise UnauthenticatedError("the session has ended", reason="SESSION_MISSING")

    async def _send(self, text: str) -> None:
        """Send an event."""
        self.write(text)
        await self.flush_in_time()

    def finish_error(self, error: FlowhookError) -> None:
        """End a stream that has begun; refuse one that has not with a status that no page follows."""
        if self._headers_written:
            if isinstance(error, UnauthenticatedError):
                rows = rendering.render("session_ended.html", section=self.section)
                self.write(_event(rows) + f"event: {ENDED}\ndata:\n\n")
            self.finish()
        else:
            super().finish_error(error)


class ExecutionStream(LiveStream):
    """`/executions/stream`."""

    template = "execution_rows.html"

    def conditions(self) -> ExecutionList:
        """Return the conditions of the list."""
        filters = read_filters(self.query())
        if filters.jq:
            raise InvalidError("a list with a jq condition does not update by itself", reason="PARAMETER_INVALID")
        return filters

    async def load(self, client: AsyncClient, conditions: ExecutionList) -> dict[str, Any]:
        """Return the first page."""
        page = await LIST_EXECUTIONS.perform(client, conditions, self.context.tools)
        return {"page": page, **row_values(conditions, page)}


def _event(text: str) -> str:
    """Return an event with a text of several lines."""
    return "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
