"""Parses what an edge sent: a sequence of whole HTTP responses."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\x20-\x7e]*+\r\n")
_FIELDS: Final = re.compile(rb"(?:[A-Za-z-]++: ?[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]+)\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: ?close\r\n", re.IGNORECASE)


class Answers(NamedTuple):
    """A sequence of responses.

    Attributes:
        statuses: of all of them, interim ones too.
        closed: whether the last one ends the connection.
    """

    statuses: list[int]
    closed: bool

    @property
    def final(self) -> int:
        """Number of answered requests."""
        return sum(status >= 200 for status in self.statuses)


def read_answers(received: bytes) -> Answers:
    """Parse a sequence of responses.

    Raises:
        ValueError: the bytes are something else, or the last response is cut off.
    """
    statuses, position, closed = [], 0, False
    while position < len(received):
        line = _STATUS_LINE.match(received, position)
        fields = _FIELDS.match(received, line.end()) if line else None
        if line is None or fields is None:
            raise ValueError("the head of a response is malformed")
        head = received[line.end() - 2 : fields.end()]
        position = fields.end()
        length = _LENGTH.search(head)
        # after an answer to HEAD, or to a request that was changed to HEAD, the next answer follows
        if length and position < len(received) and not received.startswith(b"HTTP/1.1 ", position):
            position += int(length[1])
            if position > len(received):
                raise ValueError("a response is cut off")
        statuses.append(int(line[1]))
        closed = _CLOSE.search(head) is not None
    return Answers(statuses, closed)
