"""Which secrets flows name, which of these are missing, and which last verified a request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Sequence
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
        users: defaultdict[str, list[SecretUser]] = defaultdict(list)
        after = ""
        while flows := await self._registry.list_flows(after_id=after, limit=PAGE):
            for flow in flows:
                for each in self._secrets(flow.id, await self._named(flow), ()):
                    users[each.name].append(
                        SecretUser(flow.id, each.verifies, each.expressions, each.match_time_ms, each.latest_match)
                    )
            after = flows[-1].id
        infos = await self._registry.list_secrets()
        missing = sorted(users.keys() - {info.name for info in infos})[:MAX_MISSING]
        uses = [_use(info.name, info, users.get(info.name, ())) for info in infos]
        uses += [_use(name, None, users[name]) for name in missing]
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


def _use(name: str, info: SecretInfo | None, users: Iterable[SecretUser]) -> SecretUse:
    ordered = sorted(users, key=lambda user: (-(user.match_time_ms or 0), user.flow_id))
    latest = ordered[0].match_time_ms if ordered else None
    return SecretUse(name, info, tuple(ordered[:MAX_USERS]), len(ordered), latest)
