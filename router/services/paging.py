"""Pages of lists that are numbered: the token of the next page is the number of the last one shown.

Source: https://google.aip.dev/158 (pagination).
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from flowhook.errors import InvalidError

MAX_PAGE: Final = 1000

_MAX_DIGITS: Final = 18


class PagedRequest(Protocol):
    """What every request for a page has."""

    @property
    def page_size(self) -> int:
        """How many are wanted; 0: as many as is usual."""
        ...

    @property
    def page_token(self) -> str:
        """Where it begins; empty: at the newest."""
        ...


class Page(NamedTuple):
    """At most `size` items, in [1, `MAX_PAGE`], whose numbers are less than `before`; None: the newest."""

    size: int
    before: int | None


def token_after(number: int | None) -> str:
    """Return the token of the page after the item with a number; None: there is none after it."""
    return "" if number is None else str(number)


def page_of(request: PagedRequest, *, default: int) -> Page:
    """Return what page is asked for, of `default` items when the request does not say.

    Raises:
        InvalidError: the token is not one of ours (`PAGE_TOKEN_INVALID`).
    """
    size = min(request.page_size, MAX_PAGE) if request.page_size > 0 else default
    token = request.page_token
    if not token:
        return Page(size, None)
    if not token.isascii() or not token.isdecimal():
        raise InvalidError("the page token is not one of ours", reason="PAGE_TOKEN_INVALID")
    return Page(size, int(token[:_MAX_DIGITS]))
