"""Index of the secrets that flows name: read once, then updated by the changes of the registry."""

from __future__ import annotations

import asyncio
from typing import Final

from flowhook.document.named_secrets import NamedSecrets, parse_names
from flowhook.errors import OutOfRangeError
from flowhook.model import Flow
from router.storage.interface import Registry

PAGE: Final = 100
"""Definitions in one read, of at most 256 KiB each."""


class SecretNames:
    """The secrets that the latest revision of each flow names. Each revision is parsed once.

    In memory it takes about 200 bytes for each flow; the database takes some thousands.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._names: dict[str, tuple[int, NamedSecrets]] = {}
        self._shared: dict[NamedSecrets, NamedSecrets] = {}
        """One instance of equal ones: many flows name the same secrets."""
        self._applied: int | None = None
        """Revision of the registry that the index contains; None: it does not have all flows yet."""
        self._following = asyncio.Lock()

    async def of(self, flow: Flow) -> NamedSecrets:
        """Return what a flow names, whose definition must be there.

        Raises:
            UnavailableError: storage can't serve.
        """
        known = self._names.get(flow.id)
        if (known is None or known[0] < flow.revision) and self._applied is not None:
            await self._follow()
            known = self._names.get(flow.id)
        if known is not None and known[0] == flow.revision:
            return known[1]
        # without all flows yet; or it was changed or deleted since it was read
        return await (self._add(flow) if self._applied is None else self._parse(flow))

    async def all(self) -> list[tuple[str, NamedSecrets]]:
        """Return what each flow names that names any, as of now.

        The first call reads all flows, and later ones read those that changed.

        Raises:
            UnavailableError: storage can't serve.
        """
        await self._follow()
        return [(flow_id, names) for flow_id, (_, names) in self._names.items() if any(names)]

    async def _follow(self) -> None:
        async with self._following:
            if self._applied is None:
                await self._read_all()
                return
            try:
                while changes := await self._registry.changes(after_revision=self._applied):
                    await self._read({change.flow_id for change in changes if change.flow_id})
                    self._applied = changes[-1].revision
            except OutOfRangeError:
                await self._read_all()

    async def _read(self, flow_ids: set[str]) -> None:
        existing = await self._registry.get_flows(list(flow_ids))
        for flow_id in flow_ids.difference(flow.id for flow in existing):
            self._names.pop(flow_id, None)
        for flow in existing:
            await self._add(flow)

    async def _read_all(self) -> None:
        self._applied = None
        revision, after, existing = await self._registry.revision(), "", set[str]()
        while flows := await self._registry.list_flows(after_id=after, limit=PAGE):
            for flow in flows:
                await self._add(flow)
            existing.update(flow.id for flow in flows)
            after = flows[-1].id
        self._names = {flow_id: names for flow_id, names in self._names.items() if flow_id in existing}
        self._applied = revision

    async def _add(self, flow: Flow) -> NamedSecrets:
        known = self._names.get(flow.id)
        if known is not None and known[0] >= flow.revision:
            return known[1]
        names = await self._parse(flow)
        if len(self._shared) > 2 * len(self._names) + PAGE:  # those of earlier revisions
            self._shared = {each: each for _, each in self._names.values()}
        names = self._shared.setdefault(names, names)
        self._names[flow.id] = flow.revision, names
        return names

    async def _parse(self, flow: Flow) -> NamedSecrets:
        await asyncio.sleep(0)  # there may be many flows
        try:
            return parse_names(flow.definition)
        except ValueError:  # stored by an incompatible version, which the table of flows reports
            return NamedSecrets()
