"""Bounds what a server may send before its answer to a request, which aiohttp does not."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

MAX_INTERIM_ANSWERS: Final = 16
"""Interim answers (1xx) that a server may send for one request; there is room for as many that lie unread, and one."""

_INTERIM: Final = range(100, 200)
_SWITCHING_PROTOCOLS: Final = 101


class TooManyAnswersError(aiohttp.ClientError):
    """A server sends one interim answer after another, or answers that nobody asked for."""

    def __init__(self) -> None:
        super().__init__(f"the server sent more than {MAX_INTERIM_ANSWERS} interim answers")


class Connector(aiohttp.TCPConnector):
    """A connector whose connections end when a server sends more answers than it may.

    aiohttp reads interim answers in a loop, for as long as there are any; a server that sends nothing else takes the
    whole event loop, and what it sends on an idle connection is kept.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of `aiohttp.TCPConnector`.

        Raises:
            RuntimeError: this aiohttp makes its connections in another way, and nothing would be bounded.
        """
        super().__init__(**options)
        made: object = getattr(self, "_factory", None)  # private: pyproject.toml names the versions that have it
        if not isinstance(made, functools.partial) or made.func is not ResponseHandler:
            raise RuntimeError(f"what servers send can't be bounded with aiohttp {aiohttp.__version__}")
        handler: type[ResponseHandler] = _Answers
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())


class _Answers(ResponseHandler):
    """The answers of one connection, parsed, as they come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._interim = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take in the head of an answer; with one too many the connection is closed."""
        code = data[0].code
        self._interim = self._interim + 1 if code in _INTERIM and code != _SWITCHING_PROTOCOLS else 0
        if self.exception() is not None:
            return
        if self._interim <= MAX_INTERIM_ANSWERS and len(self) <= MAX_INTERIM_ANSWERS:
            super().feed_data(data, size)
            return
        self.set_exception(TooManyAnswersError())
        if self.transport is not None:
            self.transport.abort()
