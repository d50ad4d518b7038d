"""Knows the secrets that flows name: which are missing, and which last verified a request.

The index of names is read once, then updated by the changes of the registry; matches are noted in memory.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import attrs
import orjson
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from flowhook import limits
from flowhook.document.diagnostics.problems import Code
from flowhook.document.loader import FlowDocument
from flowhook.document.models.auth import kinds_by_secret, parse_auth, secret_misuses
from flowhook.document.models.credentials import AuthKind
from flowhook.document.named_secrets import NamedSecrets, parse_names
from flowhook.errors import Fault, InvalidFlowError, OutOfRangeError
from flowhook.model import Flow
from flowhook.model.flows import NamedSecret, SecretInfo, SecretUser, SecretUses
from router.storage.registry import Registry

# pairs of flow and secret that are noted; beyond it, the pair that was noted first makes room
MAX_PAIRS: Final = 20_000
PAGE: Final = 100  # definitions in one read, of at most 256 KiB each
SLICE: Final = 100  # secrets that are added to a result before other tasks of the event loop have their turn
MAX_USERS: Final = 100  # flows that are reported for a secret
MAX_ALL_USERS: Final = 2000  # those of all secrets, shared equally, but for one of each secret
MAX_MISSING: Final = 1000  # missing secrets that are reported


@attrs.define(eq=False, repr=False)
class SecretMatches:
    """The last match of each pair of flow and secret. Noting one takes constant time."""

    since_ms: int  # Unix time from which matches are noted
    _max_pairs: int = attrs.field(default=MAX_PAIRS, kw_only=True)
    _times: OrderedDict[tuple[str, str], int] = attrs.field(init=False, factory=OrderedDict)

    def note(self, flow_id: str, secret: str, time_ms: int) -> None:
        """Note that a secret verified a request of a flow, which exists, at a Unix time in ms."""
        pair = flow_id, secret
        if pair in self._times:
            self._times[pair] = time_ms
        elif secret and len(secret) <= limits.MAX_SECRET_NAME_LENGTH:
            if len(self._times) >= self._max_pairs:
                self._times.popitem(last=False)
            self._times[pair] = time_ms

    def last(self, flow_id: str, secret: str) -> int | None:
        """Return the time of the last match, Unix time in ms; None: none is noted."""
        return self._times.get((flow_id, secret))


@attrs.define(eq=False, repr=False)
class SecretNames:
    """The secrets that the latest revision of each flow names. Each revision is parsed once.

    In memory it takes about 300 bytes for each flow; the database takes some thousands.
    """

    _registry: Registry
    _names: dict[str, tuple[int, NamedSecrets]] = attrs.field(init=False, factory=dict)
    _users: dict[str, set[str]] = attrs.field(init=False, factory=dict)  # IDs of the flows that name a secret
    # one instance of equal ones: many flows name the same secrets
    _shared: dict[NamedSecrets, NamedSecrets] = attrs.field(init=False, factory=dict)
    # revision of the registry that the index contains; None: it does not have all flows yet
    _applied: int | None = attrs.field(init=False, default=None)
    _following: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def of(self, flow: Flow) -> NamedSecrets:
        """Return what a flow names, whose definition must be there."""
        known = self._names.get(flow.id)
        if (known is None or known[0] < flow.revision) and self._applied is not None:
            await self._follow()
            known = self._names.get(flow.id)
        if known is not None and known[0] == flow.revision:
            return known[1]
        # without all flows yet; or it was changed or deleted since it was read
        return await (self._add(flow) if self._applied is None else self._parse(flow))

    async def users(self) -> Mapping[str, Collection[str]]:
        """Return the IDs of the flows that name each secret, as of now; both change later.

        The first call reads all flows, and later ones read those that changed.
        """
        await self._follow()
        return self._users

    def known(self, flow_id: str) -> NamedSecrets:
        """Return what a flow names, as of the last change that was read."""
        _, names = self._names.get(flow_id, (0, NamedSecrets()))
        return names

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
            self._put(flow_id, None)
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
        for flow_id in self._names.keys() - existing:
            self._put(flow_id, None)
        self._applied = revision

    async def _add(self, flow: Flow) -> NamedSecrets:
        known = self._names.get(flow.id)
        if known is not None and known[0] >= flow.revision:
            return known[1]
        names = await self._parse(flow)
        if len(self._shared) > 2 * len(self._names) + PAGE:  # those of earlier revisions
            self._shared = {each: each for _, each in self._names.values()}
        names = self._shared.setdefault(names, names)
        self._put(flow.id, (flow.revision, names))
        return names

    def _put(self, flow_id: str, entry: tuple[int, NamedSecrets] | None) -> None:
        for name in self.known(flow_id).all:
            users = self._users[name]
            users.discard(flow_id)
            if not users:
                del self._users[name]
        if entry is None:
            self._names.pop(flow_id, None)
            return
        self._names[flow_id] = entry
        for name in entry[1].all:
            self._users.setdefault(name, set()).add(flow_id)

    async def _parse(self, flow: Flow) -> NamedSecrets:
        await asyncio.sleep(0)  # there may be many flows
        try:
            return parse_names(flow.definition)
        except ValueError:  # stored by an incompatible version, which the table of flows reports
            return NamedSecrets()


@attrs.define(eq=False, repr=False)
class FlowSecrets:
    """The secrets of flows, those that are missing, and their last matches."""

    _registry: Registry
    _matches: SecretMatches
    _names: SecretNames = attrs.field(
        init=False, default=attrs.Factory(lambda self: SecretNames(self._registry), takes_self=True)
    )

    async def of(self, flows: Sequence[Flow]) -> dict[str, tuple[NamedSecret, ...]]:
        named = {flow.id: await self._names.of(flow) for flow in flows}
        wanted = frozenset[str]().union(*(names.all for names in named.values()))
        there = await self._registry.get_secrets(wanted) if wanted else {}
        return {flow_id: self._secrets(flow_id, names, there) for flow_id, names in named.items()}

    async def uses(self) -> SecretUses:
        """Return which flows name each secret.

        Takes some microseconds for each of them, and less for each flow; definitions are parsed only once.
        """
        infos = await self._registry.list_secrets()
        users = await self._names.users()
        missing = sorted(users.keys() - {info.name for info in infos})[:MAX_MISSING]
        infos += (SecretInfo(name, None) for name in missing)
        most = min(max(MAX_ALL_USERS // max(len(infos), 1), 1), MAX_USERS)
        uses: list[SecretInfo] = []
        for info in infos:
            uses.append(self._with_users(info, users.get(info.name, ()), most))
            if len(uses) % SLICE == 0:
                await asyncio.sleep(0)
        return SecretUses(tuple(uses), self._matches.since_ms)

    def _with_users(self, info: SecretInfo, flow_ids: Collection[str], most: int) -> SecretInfo:
        """Return a secret with the flows that name it: at most so many, the latest matches first."""
        name = info.name
        chosen = heapq.nsmallest(most, flow_ids, key=lambda each: (-(self._matches.last(each, name) or 0), each))
        users = tuple(self._user(flow_id, name) for flow_id in chosen)
        matched_ms = users[0].match_time_ms if users else None
        return replace(info, users=users, user_count=len(flow_ids), match_time_ms=matched_ms)

    def _user(self, flow_id: str, name: str) -> SecretUser:
        [found] = (each for each in self._secrets(flow_id, self._names.known(flow_id), ()) if each.name == name)
        return SecretUser(flow_id, found.verifies, found.expressions, found.match_time_ms, found.latest_match)

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


Uses = Mapping[str, set[str]]  # kinds of `auth` by the name of the secret they verify with


async def check_shared(documents: Sequence[FlowDocument], registry: Registry) -> None:
    """Refuse flows that share a secret when the handshake of one would sign events of the other.

    Documents to be applied are checked against each other, and against all other flows: so it can't be part of a
    document's validation. See `flowhook.document.models.auth`.
    """
    applied: dict[str, Uses] = {
        document.id: {} if document.webhook is None else kinds_by_secret(document.webhook.all_kinds())
        for document in documents
    }
    secrets = frozenset(name for uses in applied.values() for name in uses)
    if not secrets:
        return
    others = dict(applied)
    after = ""
    while flows := await registry.list_flows(after_id=after, limit=PAGE):
        others |= await asyncio.to_thread(_uses, [flow for flow in flows if flow.id not in applied], secrets)
        after = flows[-1].id
    faults = [
        Fault(str(index), 0, "webhook.auth", cause, Code.SECRET_SHARED)
        for index, document in enumerate(documents)
        for cause in _causes(document.id, applied[document.id], others)
    ]
    if faults:
        raise InvalidFlowError(faults)


def _causes(flow_id: str, uses: Uses, others: Mapping[str, Uses]) -> Iterator[str]:
    """Yield a message for each secret that a flow must not share with another, once for each other flow."""
    for other, theirs in others.items():
        reported: set[str] = set()
        for found in secret_misuses(uses, theirs) if other != flow_id else ():
            if found.secret not in reported:
                reported.add(found.secret)
                yield (
                    f"secret {found.secret} is used by `{found.one}` in flow {flow_id} and by `{found.other}` in flow "
                    f"{other}: the handshake of `{found.signing}` signs text that a caller chooses, which would "
                    f"authenticate as an event of the other flow; use a separate secret for one of them"
                )


def _uses(flows: Sequence[Flow], secrets: frozenset[str]) -> dict[str, Uses]:
    """Return how flows use some secrets; flows that don't use any are left out. Blocking."""
    names = [name.encode() for name in secrets]  # JSON does not escape their characters
    found: dict[str, Uses] = {}
    for flow in flows:
        if flow.has_webhook and any(name in flow.definition for name in names):
            found[flow.id] = kinds_by_secret(_stored_kinds(orjson.loads(flow.definition)))
    return found


def _stored_kinds(definition: Mapping[str, Any]) -> list[AuthKind]:
    """Return the kinds of `auth` in a stored definition; skip those this version can't parse, and so does not serve."""
    webhook = definition.get("webhook") or {}
    kinds: list[AuthKind] = []
    for each in (webhook, *(webhook.get("callbacks") or {}).values()):
        with suppress(ValidationError, PydanticCustomError):
            kinds += parse_auth(each.get("auth"))
    return kinds
