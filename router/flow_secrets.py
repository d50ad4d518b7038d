"""Which secrets flows name, which of these are missing, and which last verified a request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from flowhook.document.named_secrets import NamedSecrets, parse_names
from flowhook.flow_statistics import NamedSecret, SecretUse, SecretUser, SecretUses
from flowhook.model import Flow, SecretInfo
from router.secret_matches import SecretMatches
from router.storage.interface import Registry

MAX_FLOWS: Final = 20_000
"""Flows whose secrets' names are in memory."""

PAGE: Final = 100
"""Definitions in one read, of at most 256 KiB each."""

MAX_USERS: Final = 100
"""Flows that are reported for a secret."""

MAX_MISSING: Final = 1000
"""Missing secrets that are reported."""


class FlowSecrets:
    """The secrets of flows. The names in a flow's latest revision are parsed once, when they are first asked for."""

    def __init__(self, registry: Registry, matches: SecretMatches, *, max_flows: int = MAX_FLOWS) -> None:
        self._registry = registry
        self._matches = matches
        self._max_flows = max_flows
        self._names: OrderedDict[str, tuple[int, NamedSecrets]] = OrderedDict()

    async def of(self, flows: Sequence[Flow]) -> dict[str, tuple[NamedSecret, ...]]:
        """Return the secrets of flows by flow ID; the flows' definitions must be there.

        Raises:
            UnavailableError: storage can't serve.
        """
        named = {flow.id: await self._named(flow) for flow in flows}
        wanted = frozenset[str]().union(*(names.all for names in named.values()))
        there = await self._registry.get_secrets(wanted) if wanted else {}
        return {flow_id: self._secrets(flow_id, names, there) for flow_id, names in named.items()}

    async def uses(self) -> SecretUses:
        """Return which flows name each secret, in time linear in the number of flows.

        Raises:
            UnavailableError: storage can't serve.
        """
        users: defaultdict[str, _Users] = defaultdict(_Users)
        after = ""
        while flows := await self._registry.list_flows(after_id=after, limit=PAGE):
            for flow in flows:
                for each in self._secrets(flow.id, await self._named(flow), ()):
                    users[each.name].add(
                        SecretUser(flow.id, each.verifies, each.expressions, each.match_time_ms, each.latest_match)
                    )
            after = flows[-1].id
        infos = await self._registry.list_secrets()
        missing = sorted(users.keys() - {info.name for info in infos})[:MAX_MISSING]
        uses = [users[info.name].use(info.name, info) for info in infos]
        uses += [users[name].use(name, None) for name in missing]
        return SecretUses(tuple(uses), self._matches.since_ms)

    async def _named(self, flow: Flow) -> NamedSecrets:
        known = self._names.get(flow.id)
        if known is not None and known[0] == flow.revision:
            return known[1]
        try:
            names = parse_names(flow.definition)
        except ValueError:  # stored by an incompatible version, which the table of flows reports
            names = NamedSecrets()
        self._names[flow.id] = flow.revision, names
        if len(self._names) > self._max_flows:
            self._names.popitem(last=False)
        await asyncio.sleep(0)  # there may be many flows
        return names

    def _secrets(self, flow_id: str, names: NamedSecrets, there: Collection[str]) -> tuple[NamedSecret, ...]:
        times = {name: self._matches.last(flow_id, name) for name in sorted(names.all)}
        latest = max((time for time in times.values() if time is not None), default=None)
        return tuple(
            NamedSecret(
                name=name,
                missing=name not in there,
                verifies=name in names.verifying,
                expressions=name in names.expressions,
                match_time_ms=time,
                latest_match=time is not None and time == latest,
            )
            for name, time in times.items()
        )


class _Users:
    """The flows that name a secret: their number, and those that are reported, the latest matches first."""

    def __init__(self) -> None:
        self._count = 0
        self._users: list[SecretUser] = []

    def add(self, user: SecretUser) -> None:
        """Add a flow. All flows may name one secret, so what is not reported is dropped on the way."""
        self._count += 1
        self._users.append(user)
        if len(self._users) > 2 * MAX_USERS:
            self._trim()

    def use(self, name: str, info: SecretInfo | None) -> SecretUse:
        """Return what is reported of a secret."""
        self._trim()
        latest = self._users[0].match_time_ms if self._users else None
        return SecretUse(name, info, tuple(self._users), self._count, latest)

    def _trim(self) -> None:
        self._users.sort(key=lambda user: (-(user.match_time_ms or 0), user.flow_id))
        del self._users[MAX_USERS:]
