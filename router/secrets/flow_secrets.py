"""Reports the secrets that flows name: which are missing, and which last verified a request."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from flowhook.document.named_secrets import NamedSecrets
from flowhook.model import Flow
from flowhook.model.flows import NamedSecret
from flowhook.model.secrets import SecretInfo, SecretUse, SecretUser, SecretUses
from router.secrets.secret_matches import SecretMatches
from router.secrets.secret_names import SecretNames
from router.storage.interface import Registry

SLICE: Final = 100
"""Flows that are added to a result before other tasks of the event loop have their turn."""

MAX_USERS: Final = 100
"""Flows that are reported for a secret."""

MAX_MISSING: Final = 1000
"""Missing secrets that are reported."""


class FlowSecrets:
    """The secrets of flows, those that are missing, and their last matches."""

    def __init__(self, registry: Registry, matches: SecretMatches) -> None:
        self._registry = registry
        self._matches = matches
        self._names = SecretNames(registry)

    async def of(self, flows: Sequence[Flow]) -> dict[str, tuple[NamedSecret, ...]]:
        """Return the secrets of flows by flow ID; the flows' definitions must be there.

        Raises:
            UnavailableError: storage can't serve.
        """
        named = {flow.id: await self._names.of(flow) for flow in flows}
        wanted = frozenset[str]().union(*(names.all for names in named.values()))
        there = await self._registry.get_secrets(wanted) if wanted else {}
        return {flow_id: self._secrets(flow_id, names, there) for flow_id, names in named.items()}

    async def uses(self) -> SecretUses:
        """Return which flows name each secret.

        Takes some microseconds for each flow that names any; definitions are parsed only once.

        Raises:
            UnavailableError: storage can't serve.
        """
        users: defaultdict[str, _Users] = defaultdict(_Users)
        for number, (flow_id, names) in enumerate(await self._names.all(), 1):
            for each in self._secrets(flow_id, names, ()):
                users[each.name].add(
                    SecretUser(flow_id, each.verifies, each.expressions, each.match_time_ms, each.latest_match)
                )
            if number % SLICE == 0:
                await asyncio.sleep(0)
        infos = await self._registry.list_secrets()
        missing = sorted(users.keys() - {info.name for info in infos})[:MAX_MISSING]
        uses = [users[info.name].use(info.name, info) for info in infos]
        uses += [users[name].use(name, None) for name in missing]
        return SecretUses(tuple(uses), self._matches.since_ms)

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
