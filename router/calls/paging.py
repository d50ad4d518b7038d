"""Pagination of numbered lists: the token of the next page is the number of the last item returned.

Source: https://google.aip.dev/158 (pagination).
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from flowhook.errors import InvalidError

MAX_PAGE: Final = 1000

_MAX_DIGITS: Final = 18


class PagedRequest(Protocol):
    """Fields that every request for a page has."""

    @property
    def page_size(self) -> int:
        """Number of items requested; 0: the default."""
        ...

    @property
    def page_token(self) -> str:
        """Token of the page; empty: start at the newest item."""
        ...


class PageQuery(NamedTuple):
    """A page: at most `size` items, in [1, `MAX_PAGE`], with numbers less than `before`; None: the newest."""

    size: int
    before: int | None


def page_token_after(number: int | None) -> str:
    """Return the token of the page after the item with a number; None: there is no further page."""
    return "" if number is None else str(number)


def parse_page(request: PagedRequest, *, default: int) -> PageQuery:
    """Return the page that a request asks for, of `default` items when it gives no size.

    Raises:
        InvalidError: the token was not made by `page_token_after` (`PAGE_TOKEN_INVALID`).
    """
    size = min(request.page_size, MAX_PAGE) if request.page_size > 0 else default
    token = request.page_token
    if not token:
        return PageQuery(size, None)
    if not token.isascii() or not token.isdecimal():
        raise InvalidError(
            "the page token is invalid: pass `next_page_token` of a response, unchanged", reason="PAGE_TOKEN_INVALID"
        )
    return PageQuery(size, int(token[:_MAX_DIGITS]))
