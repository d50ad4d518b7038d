"""Limits the number of interim and unsolicited HTTP responses per connection; aiohttp has no such limit."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

MAX_INTERIM_RESPONSES: Final = 16
"""Interim responses (1xx) that a server may send for one request; up to one more than that may be queued unread."""

_INTERIM: Final = range(100, 200)
_SWITCHING_PROTOCOLS: Final = 101


class TooManyResponsesError(aiohttp.ClientError):
    """A server sent too many interim responses, or responses without a request."""

    def __init__(self) -> None:
        super().__init__(f"the server sent more than {MAX_INTERIM_RESPONSES} interim responses")


class LimitedConnector(aiohttp.TCPConnector):
    """A connector that aborts a connection when the server sends more responses than allowed.

    aiohttp reads interim responses in a loop until the final one. A server that sends nothing else would occupy the
    event loop, and aiohttp buffers whatever a server sends on an idle connection.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of `aiohttp.TCPConnector`.

        Raises:
            RuntimeError: this version of aiohttp creates connections differently, so the limit could not be enforced.
        """
        super().__init__(**options)
        made: object = getattr(self, "_factory", None)  # private: pyproject.toml pins the versions that have it
        if not isinstance(made, functools.partial) or made.func is not ResponseHandler:
            raise RuntimeError(f"the number of responses can't be limited with aiohttp {aiohttp.__version__}")
        handler: type[ResponseHandler] = _Answers
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())


class _Answers(ResponseHandler):
    """Counts the parsed responses of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._interim = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Accept the head of a response, or abort the connection when there are too many."""
        code = data[0].code
        self._interim = self._interim + 1 if code in _INTERIM and code != _SWITCHING_PROTOCOLS else 0
        if self.exception() is not None:
            return
        if self._interim <= MAX_INTERIM_RESPONSES and len(self) <= MAX_INTERIM_RESPONSES:
            super().feed_data(data, size)
            return
        self.set_exception(TooManyResponsesError())
        if self.transport is not None:
            self.transport.abort()
