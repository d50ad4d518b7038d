"""Gives refusals the URL of the documentation as their `type`, if an edge knows where senders can read that.

Source: RFC 9457, section 3.1.1 (`type`). The page has an anchor for each reason.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from edge.http.responses import Response

_BLANK: Final = b'{"type":"about:blank",'
_LENGTH: Final = b"Content-Length: %d\r\n"


class ProblemTypes:
    """The types of problems, for one place of the documentation."""

    def __init__(self, docs_url: str) -> None:
        """Use `docs_url`, below which the page `http` is; empty: problems have no type."""
        self._page = f"{docs_url.rstrip('/')}/http".encode() if docs_url else b""
        self.of = lru_cache(512)(self._of) if docs_url else lambda response: response

    def _of(self, response: Response) -> Response:
        """Return a response with its type, if it is a problem."""
        body = response.body
        if not body.startswith(_BLANK):
            return response
        kind = b'{"type":"%b#%b",' % (self._page, response.reason.lower().encode())
        typed = kind + body[len(_BLANK) :]
        head = response.head.replace(_LENGTH % len(body), _LENGTH % len(typed), 1)
        return response._replace(head=head, body=typed)
