"""Operations on the revisions of a flow: the list of them, and what changed between two."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from flowhook.model.flows import FlowRevision
from operations.flows import FlowName, PageSize, Revision
from operations.text_diff import DiffLine, diff

if TYPE_CHECKING:
    from flowhook.client import AsyncClient

MAX_LINES: Final = 5000  # lines of a comparison; beyond it a last one says so


class RevisionList(FlowName):
    """Parameters of `list_revisions`."""

    page_size: PageSize = 100
    """Revisions on the page at most."""
    page_token: str = ""
    """`next_page_token` of the page before; empty: the first page."""


class RevisionPair(FlowName):
    """Parameters of `diff_revisions`."""

    old: Revision = 0
    """Number of the earlier revision; 0: the one before `new`."""
    new: Revision = 0
    """Number of the later revision; 0: the latest."""


@dataclass(frozen=True, slots=True)
class RevisionPage:
    """Stored revisions of a flow, newest first, and the token of the next page; empty on the last."""

    revisions: tuple[FlowRevision, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class RevisionDiff:
    """What changed in the file of a flow from revision `old` to revision `new`; `old` is 0 if there is none before."""

    old: int
    new: int
    lines: tuple[DiffLine, ...]


async def list_revisions(client: AsyncClient, parameters: RevisionList) -> RevisionPage:
    """List the stored revisions of a flow, newest first."""
    page = await client.flows.revisions_page(
        parameters.flow_id, page_size=parameters.page_size, page_token=parameters.page_token
    )
    return RevisionPage(tuple(page.items), page.next_page_token)


async def diff_revisions(client: AsyncClient, parameters: RevisionPair) -> RevisionDiff:
    """Compare the files of two revisions of a flow."""
    new = await client.flows.get(parameters.flow_id, revision=parameters.new)
    number = parameters.old
    if not number:
        earlier = await client.flows.revisions_page(parameters.flow_id, page_size=1, page_token=str(new.revision))
        number = earlier.items[0].revision if earlier.items else 0
        if not number:
            return RevisionDiff(0, new.revision, ())
    old = await client.flows.get(parameters.flow_id, revision=number)
    texts = (flow.document.decode("utf-8", "replace") for flow in (old, new))
    return RevisionDiff(old.revision, new.revision, await compare(*texts))


async def compare(old: str, new: str) -> tuple[DiffLine, ...]:
    """Return what changed between two files, at most `MAX_LINES` lines and one that says that there are more.

    In a thread, since it may take a second.
    """
    lines = await asyncio.to_thread(lambda: tuple(islice(diff(old, new), MAX_LINES + 1)))
    if len(lines) <= MAX_LINES:
        return lines
    return (*lines[:MAX_LINES], DiffLine("@", "further changes are not shown"))
