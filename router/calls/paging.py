"""Pagination of numbered lists: the token of the next page is the number of the last item returned.

Source: https://google.aip.dev/158 (pagination).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from flowhook.errors import InvalidError

MAX_PAGE: Final = 1000
_MAX_DIGITS: Final = 18

T = TypeVar("T")


class PageQuery(NamedTuple):
    """A page: at most `size` items, in [1, `MAX_PAGE`], with numbers less than `before`; None: the newest."""

    size: int
    before: int | None


def page_size(asked: int, default: int) -> int:
    """Return how many items a page has, of which a request asks for some number; 0: the default."""
    return min(asked, MAX_PAGE) if asked > 0 else default


def parse_page(size: int, token: str, default: int) -> PageQuery:
    """Return the page that a request asks for, of `default` items when it gives no size.

    Raises:
        InvalidError: the token was not made by `page_token_after` (`PAGE_TOKEN_INVALID`).
    """
    if token and not (token.isascii() and token.isdecimal()):
        raise InvalidError(
            "the page token is invalid: pass `next_page_token` of a response, unchanged", reason="PAGE_TOKEN_INVALID"
        )
    return PageQuery(page_size(size, default), int(token[:_MAX_DIGITS]) if token else None)


def page_token_after(number: int | None) -> str:
    return "" if number is None else str(number)


def split_page(
    found: Sequence[T], size: int, number_of: Callable[[T], Any] = attrgetter("number")
) -> tuple[Sequence[T], str]:
    """Return the items of a page, of which one more was read, and the token of the next page."""
    return found[:size], str(number_of(found[size - 1])) if len(found) > size else ""
