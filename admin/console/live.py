"""Live lists: the first page of a list as server-sent events, one for each change.

The list is read again at fixed times rather than at each change of an execution: thousands change in a second of a busy
cluster, and what a page in a browser costs must not grow with that.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from admin.console import rendering
from admin.console.page import ConsolePage, read_rows
from flowhook.errors import FlowhookError, UnauthenticatedError, UnavailableError
from operations.operation import Operation

INTERVAL_SECONDS: Final = 0.5  # time between two looks at the list of executions
# such a multiple of the time that a look takes passes before the next one: conditions without an index take long
PAUSE_FACTOR: Final = 4
LOAD_SECONDS: Final = 5.0  # time after which a look that has no result counts as one at a router that does not answer
REFRESH_SECONDS: Final = 30.0  # time after which rows that did not change are sent again, so that their ages are right
ENDED: Final = "ended"  # event after which the page asks for no further ones: its session has ended
AWAY: Final = "event: away\ndata:\n\n"  # sent instead of the rows while the router does not answer


class LiveStream(ConsolePage):
    """Base class of the streams: subclasses say what is read and shown."""

    operation: Operation[Any]  # reads the conditions, and what is shown

    SUPPORTED_METHODS = ("GET",)
    is_part = True
    patience = None  # it ends when its reader leaves
    template = ""  # renders the rows
    interval = INTERVAL_SECONDS  # between two looks at the list; at most so many events are sent
    rows: int | None = None  # of a list: so many are shown

    def conditions(self) -> Any:
        """Return the conditions that the parameters of the URL name."""
        query = self.query()
        return (
            self.operation.read_query({}, query) if self.rows is None else read_rows(self.operation, query, self.rows)
        )

    async def load(self, conditions: Any) -> dict[str, Any]:
        """Return the values for the template, by name. May raise as operations do."""
        return self.values_of(conditions, await self.perform(self.operation, conditions))

    def values_of(self, _conditions: Any, result: Any) -> dict[str, Any]:
        return {"page": result}

    def prepare(self) -> None:
        self._closed = asyncio.Event()
        super().prepare()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._closed.set()

    async def show(self, *_values: str) -> None:
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
                self.write(AWAY if values is None else _event(rendering.render(self.template, **values)))
                await self.flush_in_time()
                shown, sent_at = values, loop.time()
            try:
                pause = max(self.interval, PAUSE_FACTOR * (loop.time() - began))
                async with asyncio.timeout(pause):
                    await self._closed.wait()
            except TimeoutError:
                continue

    async def _load(self, conditions: Any) -> dict[str, Any] | None:
        """Return what `load` does; None: the router does not answer.

        Raises:
            UnauthenticatedError: the session has ended. This is no use of it: nobody asked for anything.
        """
        if self.find_session(use=False) is not self.session:
            raise UnauthenticatedError("the session has ended", reason="SESSION_MISSING")
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await self.load(conditions)
        except (TimeoutError, UnavailableError):
            return None

    def finish_error(self, error: FlowhookError) -> None:
        """End a stream that has begun; refuse one that has not with a status that no page follows."""
        if self._headers_written:
            if isinstance(error, UnauthenticatedError):
                rows = rendering.render("session_ended.html", section=self.section)
                self.write(_event(rows) + f"event: {ENDED}\ndata:\n\n")
            self.finish()
        else:
            super().finish_error(error)


def _event(text: str) -> str:
    return "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
