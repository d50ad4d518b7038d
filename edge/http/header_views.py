"""Tornado's view of header fields, built only when a caller looks into it.

`HTTPHeaders` stores fields in a dict, which loses their order and normalises their names, and building one takes longer
than parsing a request. So a request's fields are stored as they arrived (`Head.headers`), a response's as the bytes to
send, and both are passed through Tornado's interfaces in a subclass that converts them on demand.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from tornado.httputil import HTTPHeaders, RequestStartLine, ResponseStartLine

from edge.http import responses
from edge.http.head import Head
from edge.http.responses import Response


def _of_fields(name: str) -> Callable[..., Any]:
    return lambda self, *args, **options: getattr(self._fields, name)(*args, **options)


class HeaderView(HTTPHeaders):
    """Fields that are converted when they are looked at."""

    _converted: HTTPHeaders | None = None

    @abstractmethod
    def _convert(self) -> HTTPHeaders:
        """Return the fields in Tornado's own class."""

    @property
    def _fields(self) -> HTTPHeaders:
        if self._converted is None:
            self._converted = self._convert()
        return self._converted

    add, get_list, get_all, copy = map(_of_fields, ("add", "get_list", "get_all", "copy"))
    __getitem__, __setitem__, __delitem__ = map(_of_fields, ("__getitem__", "__setitem__", "__delitem__"))
    __contains__, __len__, __iter__ = map(_of_fields, ("__contains__", "__len__", "__iter__"))


class RequestHeaders(HeaderView):
    """The fields of a request."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def _convert(self) -> HTTPHeaders:
        return _headers((name, value.decode("latin-1")) for name, value in self.head.headers)


class ResponseHeaders(HeaderView):
    """The fields of a response. Those that depend on the connection, and Date, are only in the converted ones."""

    def __init__(self, response: Response) -> None:
        self.response = response

    def _convert(self) -> HTTPHeaders:
        lines = self.response.head.decode("latin-1").split("\r\n")[1:-1]
        headers = _headers((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        headers["Date"] = formatdate(usegmt=True)
        if self.response.close:
            headers["Connection"] = "close"
        return headers


def _headers(fields: Iterable[tuple[str, str]]) -> HTTPHeaders:
    headers = HTTPHeaders()
    for name, value in fields:
        headers.add(name, value)
    return headers


def encode_head(start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> bytes:
    """Return a response head as bytes, without the fields that a connection adds, and without the empty line."""
    _, status, _ = start_line
    lines = [f"{name}: {value}\r\n" for name, value in headers.get_all() if name not in ("Connection", "Date")]
    return responses.status_line(int(status)) + "".join(lines).encode("latin-1")
