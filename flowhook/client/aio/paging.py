"""Iteration over lists that the router returns page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

PAGE_SIZE: Final = 500  # items that are requested at a time


async def iterate(read: Callable[..., Any], limit: int | None = None) -> AsyncIterator[Any]:
    """Yield the items of all pages, at most `limit` of them; `read` takes `page_size` and `page_token`."""
    token = ""
    while limit is None or limit > 0:
        page = await read(page_size=PAGE_SIZE if limit is None else min(limit, PAGE_SIZE), page_token=token)
        for item in page.items:
            yield item
        token = page.next_page_token
        if not token:
            return
        if limit is not None:
            limit -= len(page.items)
