"""Iteration over lists that the router returns page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol, TypeVar

from flowhook.client.results import Page

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

PAGE_SIZE: Final = 500  # items that are requested at a time


class ReadPage(Protocol[T_co]):
    """Reads a page: at most `page_size` items, from the position `page_token` on."""

    async def __call__(self, page_size: int, page_token: str) -> Page[T_co]:
        """Return the page."""


async def items(read: ReadPage[T], limit: int | None = None) -> AsyncIterator[T]:
    """Yield the items of all pages, at most `limit` of them."""
    token = ""
    while limit is None or limit > 0:
        page, token = await read(PAGE_SIZE if limit is None else min(limit, PAGE_SIZE), token)
        for item in page:
            yield item
        if not token:
            return
        if limit is not None:
            limit -= len(page)
