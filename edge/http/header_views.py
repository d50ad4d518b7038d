"""Tornado's view of header fields, built only when a caller looks into it.

`HTTPHeaders` stores fields in a dict, which loses their order and normalises their names, and building one takes longer
than parsing a request. So a request's fields are stored as they arrived (`Head.headers`), a response's as the bytes to
send, and both are passed through Tornado's interfaces in a subclass that converts them on demand.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from email.utils import formatdate

from tornado.httputil import HTTPHeaders, RequestStartLine, ResponseStartLine

from edge.http import responses
from edge.http.head import Head
from edge.http.responses import Response


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

    def add(self, name: str, value: str, *, _chars_are_bytes: bool = True) -> None:
        self._fields.add(name, value, _chars_are_bytes=_chars_are_bytes)

    def get_list(self, name: str) -> list[str]:
        return self._fields.get_list(name)

    def get_all(self) -> Iterable[tuple[str, str]]:
        return self._fields.get_all()

    def copy(self) -> HTTPHeaders:
        return self._fields.copy()

    def __setitem__(self, name: str, value: str) -> None:
        self._fields[name] = value

    def __getitem__(self, name: str) -> str:
        return self._fields[name]

    def __delitem__(self, name: str) -> None:
        del self._fields[name]

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __len__(self) -> int:
        return len(self._fields)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)


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
