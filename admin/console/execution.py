"""`/executions/ID`."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Final

from admin.console.hexdump import hexdump
from admin.console.json_format import indent_json
from admin.console.page import Page
from admin.operations.executions import ExecutionId
from admin.operations.table import GET_EXECUTION, READ_BODY

MAX_SHOWN: Final = 64 * 1024
"""Bytes of a body that a page shows; the whole body can be downloaded."""

MAX_HEX: Final = 4 * 1024
"""Bytes of a body that a page shows in hexadecimal."""

MAX_ENTRIES: Final = 100
"""Entries of the journal that a page shows; the API has all of them."""

MAX_ENTRY: Final = 2 * 1024
"""Characters of the output of such an entry that a page shows."""


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
