"""Finds flows by URLs of their own, and refuses to apply those that collide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from flowhook.document import FlowDocument
from flowhook.document.diagnostics.problems import Code
from flowhook.errors import Fault, InvalidFlowError
from flowhook.model import own_urls
from flowhook.model.own_urls import OwnUrl
from router.storage.registry import Registry

_NO_FILES: Final[Mapping[str, str]] = MappingProxyType({})


async def check(documents: Sequence[FlowDocument], registry: Registry) -> None:
    """Check the URLs of documents to be applied against each other, and against those of all other flows."""
    urls = {document.id: None if document.webhook is None else document.webhook.own_url for document in documents}
    applied = {flow_id: url for flow_id, url in urls.items() if url is not None}
    if applied:
        others = {flow_id: url for flow_id, url in (await registry.urls()).items() if flow_id not in urls}
        indexes = {document.id: str(index) for index, document in enumerate(documents)}
        if faults := list(collisions(applied, others, indexes)):
            raise InvalidFlowError(faults)


def collisions(
    applied: Mapping[str, OwnUrl], others: Mapping[str, OwnUrl], files: Mapping[str, str] = _NO_FILES
) -> Iterator[Fault]:
    """Yield a fault for each flow to be applied and each that has a URL which collides with its own.

    `others` are the flows that stay as they are; `files` are the names of the files of the first ones.
    """
    for flow_id, url in applied.items():
        for other, theirs in {**others, **applied}.items():
            if other != flow_id and url.collides(theirs):
                cause = f"{url} is taken by flow {other}, whose URL is {theirs}: choose another path or host"
                yield Fault(files.get(flow_id, ""), 0, "webhook.path", cause, Code.URL_TAKEN)


@attrs.define(eq=False, repr=False)
class FlowUrls:
    """Finds flows by the URLs of requests, in memory, read again when the registry has changed."""

    _registry: Registry
    _revision: int = attrs.field(init=False, default=-1)
    _urls: dict[tuple[str, str], tuple[str, OwnUrl]] = attrs.field(init=False, factory=dict)

    async def find(self, urls: Iterable[tuple[str, str]]) -> tuple[list[str], bool]:
        """Return the flow of each host and path, empty: none; and whether any flow has a URL of its own."""
        revision = await self._registry.revision()
        if revision != self._revision:
            stored = await self._registry.urls()
            self._urls = {(url.host, url.path): (flow_id, url) for flow_id, url in stored.items()}
            self._revision = revision
        return [self._find(host, path) for host, path in urls], bool(self._urls)

    def _find(self, host: str, path: str) -> str:
        for flow_id, url in own_urls.find(self._urls, host, path):
            if url.takes(host, path):
                return flow_id
        return ""
