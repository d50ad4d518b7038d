"""Finds flows by URLs of their own, and refuses to apply those that collide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final

import attrs

from flowhook.document.diagnostics.problems import Code
from flowhook.document.loader import FlowDocument
from flowhook.errors import Fault, InvalidFlowError
from flowhook.model import own_urls
from flowhook.model.own_urls import OwnUrl
from router.storage.registry import Registry

MAX_NAMED: Final = 20  # flows that are named at one path whose URLs collide with that of a flow

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


_Found = dict[str, dict[str, list[str]]]  # IDs of flows, by a path and the host of their URLs


def collisions(
    applied: Mapping[str, OwnUrl], others: Mapping[str, OwnUrl], files: Mapping[str, str] = _NO_FILES
) -> Iterator[Fault]:
    """Yield a fault for each flow to be applied and each that has a URL which collides with its own, or some of them.

    `others` are the flows that stay as they are; `files` are the names of the files of the first ones.
    """
    urls = {**others, **applied}
    same: _Found = {}
    above: _Found = {}  # flows that take what is below their paths
    below: _Found = {}  # flows by each path above theirs
    for flow_id, url in urls.items():
        _add(same, url.path, url.host, flow_id)
        if url.deeper:
            _add(above, url.path, url.host, flow_id)
        for path in own_urls.upwards(url.path):
            if path != url.path:
                _add(below, path, url.host, flow_id)
    for flow_id, url in applied.items():
        places = [same.get(url.path), *map(above.get, own_urls.upwards(url.path))]
        if url.deeper:
            places.append(below.get(url.path))
        found = dict.fromkeys(each for hosts in places if hosts for each in _others(hosts, url.host, flow_id))
        for other in found:
            cause = f"{url} is taken by flow {other}, whose URL is {urls[other]}: choose another path or host"
            yield Fault(files.get(flow_id, ""), 0, "webhook.path", cause, Code.URL_TAKEN)


def _add(found: _Found, path: str, host: str, flow_id: str) -> None:
    found.setdefault(path, {}).setdefault(host, []).append(flow_id)


def _others(hosts: Mapping[str, list[str]], host: str, flow_id: str) -> Iterator[str]:
    """Yield flows other than `flow_id` that a request to `host`, empty: to any, could be for: not all if many."""
    lists = (hosts.get(host, ()), hosts.get("", ())) if host else hosts.values()
    return islice((each for flow_ids in lists for each in flow_ids if each != flow_id), MAX_NAMED)


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
