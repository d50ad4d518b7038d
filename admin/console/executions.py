"""`/executions` and `/executions/ID`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import urlencode

from admin.console.hexdump import hexdump
from admin.console.json_format import indent_json
from admin.console.page import Page
from admin.operations.executions import ExecutionId, ExecutionList
from admin.operations.table import GET_EXECUTION, LIST_EXECUTIONS, READ_BODY
from flowhook.errors import InvalidError
from flowhook.model import Status

ROWS: Final = 50
"""Executions on a page at most, live or not."""

MAX_SHOWN: Final = 64 * 1024
"""Bytes of a body that a page shows; the whole body can be downloaded."""

MAX_HEX: Final = 4 * 1024
"""Bytes of a body that a page shows in hexadecimal."""

MAX_ENTRIES: Final = 100
"""Entries of the journal that a page shows; the API has all of them."""

MAX_ENTRY: Final = 2 * 1024
"""Characters of the output of such an entry that a page shows."""

LIVE: Final = "live"


def read_filters(query: Mapping[str, Sequence[str]]) -> ExecutionList:
    """Return the conditions that the parameters of a page's URL name.

    Raises:
        InvalidError: there is no such parameter, or no such value.
    """
    if (query.get("page_size") or [""])[0]:
        raise InvalidError(f"a page has {ROWS} rows: write no page_size", reason="PARAMETER_INVALID")
    return LIST_EXECUTIONS.read_query({}, {**query, "page_size": [str(ROWS)]})


def filter_query(filters: ExecutionList, **others: str) -> str:
    """Return the conditions as parameters of a URL."""
    pairs = [("flow", filters.flow), *(("status", status.value) for status in filters.status)]
    if filters.unresolved:
        pairs.append(("unresolved", "true"))
    return urlencode([(name, value) for name, value in (*pairs, *others.items()) if value])


class ExecutionsPage(Page):
    """`/executions`: executions, newest first, with conditions in the URL; live on the first page."""

    section = "executions"

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        query = self.query()
        live = query.pop(LIVE, ["on"])[0]
        if live not in ("on", "off"):
            raise InvalidError("live: write on or off", reason="PARAMETER_INVALID")
        filters = read_filters(query)
        async with self.router() as client:
            page = await LIST_EXECUTIONS.run(client, filters)
        first = not filters.page_token
        self.finish_page(
            "executions.html",
            page=page,
            filters=filters,
            statuses=list(Status),
            first=first,
            live=first and live == "on",
            query=filter_query(filters),
            older=filter_query(filters, page_token=page.next_page_token),
            switched=filter_query(filters, live="off" if live == "on" else "on"),
        )


class ExecutionPage(Page):
    """`/executions/ID`: one execution."""

    section = "executions"

    async def show(self, *values: str) -> None:
        """Respond with the execution, and with views of its body that are made here from its bytes."""
        detail = await self.run(GET_EXECUTION, {"execution_id": values[0]})
        shown = await self._read_body(values[0])
        self.finish_page(
            "execution.html",
            detail=detail,
            execution=detail.execution,
            body=_body_view(shown),
            max_entries=MAX_ENTRIES,
            max_entry=MAX_ENTRY,
        )

    async def _read_body(self, execution_id: str) -> bytes:
        """Return the first bytes of the body: `MAX_SHOWN`, and one more if there is one."""
        body = bytearray()
        async with (
            self.router() as client,
            aclosing(await READ_BODY.run(client, ExecutionId(execution_id=execution_id))) as chunks,
        ):
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_SHOWN:
                    break
        return bytes(body[: MAX_SHOWN + 1])


def _body_view(body: bytes) -> dict[str, Any]:
    """Return the views of a body: as text, indented if it is whole JSON, and in hexadecimal."""
    cut = len(body) > MAX_SHOWN
    body = body[:MAX_SHOWN]
    text = body.decode("utf-8", "replace")
    return {
        "text": text,
        "pretty": None if cut else indent_json(text),
        "hex": hexdump(body[:MAX_HEX]),
        "cut": cut,
        "hex_cut": len(body) > MAX_HEX,
        "utf8": "\ufffd" not in text or body.decode("utf-8", "ignore").encode() == body,
    }
