"""A bounded cache of compiled flow endpoints, invalidated by a watch of the router's registry.

An entry was current at a registry revision, and is dropped when the watch reports a later change to it. A watch that is
silent for `limits.WATCH_SILENCE_SECONDS` may have missed changes. Until it recovers the cache is not used, and every
request asks the router, so that no revoked secret and no deleted flow remains in use.

IDs of unknown flows are cached separately, so that made-up IDs can't evict real flows. An ID that belonged to a flow,
or that the watch has reported, is looked up at once; for any other the edge first asks the router whether the flow
exists, in batches. So it finds flows by URLs of their own, too, and remembers these, and paths that belong to no flow
until any flow changes.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

import attrs
import orjson
from pydantic import ValidationError

from edge.metrics import EdgeMetrics
from edge.router.client import FlowName, FoundFlows, RouterClient
from edge.webhook.compiled_endpoints import FlowEndpoints
from flowhook import limits
from flowhook.document.models.webhook import Webhook
from flowhook.errors import FlowhookError, InternalError, NotFoundError, OutOfRangeError, UnavailableError
from flowhook.events.keys import KeyExpressions, order_expression, shaping_expressions
from flowhook.model import own_urls
from flowhook.process import logs
from flowhook.v1.flow_service_pb2 import WatchFlowsResponse
from flowhook.wire.status import probable_cause

# Minimum time from the start of one call to the start of the next; the first call is made at once.
PACE_SECONDS: Final = 0.02
MAX_WAITING: Final = 4 * limits.MAX_FOUND_FLOWS  # IDs that may wait for a call. At this limit the wait is some 0.1 s.
MAX_LOOKUPS: Final = 64  # concurrent reads of flows from the router; further ones wait for their turn
RECHECK_SECONDS: Final = 0.01
RECONNECT_SECONDS: Final = 0.2
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FLOW_ID: Final = re.compile(rf"{_NAME}(?:\.{_NAME})?")

log = logs.get_logger(__name__)


class _LookupTimedOutError(UnavailableError):
    """The router did not return a flow in time."""

    def __init__(self) -> None:
        super().__init__("the lookup of a flow took too long")


@attrs.define(eq=False, repr=False)
class _Lookup:
    result: asyncio.Future[FlowEndpoints | None]
    changes: list[WatchFlowsResponse] = attrs.field(factory=list)  # reported meanwhile
    doubtful: bool = False  # whether the watch may have missed any

    def fail(self, error: FlowhookError) -> None:
        """Fail the lookup; all its waiters may have given up already."""
        self.result.set_exception(error)
        self.result.exception()  # else asyncio logs an exception that was never retrieved


@attrs.define(eq=False, repr=False)
class _FlowExistence:
    """Looks up in batches which flows exist whose IDs or URLs are unknown. Anybody can make up thousands a second.

    The cost to the router must not depend on their number. IDs that arrive during a call are batched into the next one;
    there is one call at a time, at most one per `pace`, and each may take some seconds.
    """

    _router: RouterClient
    _seconds: float
    _pace: float
    _waiting: dict[FlowName, list[asyncio.Future[tuple[str, bool]]]] = attrs.field(init=False, factory=dict)
    _asking: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _next_at: float = attrs.field(init=False, default=0.0)

    async def of(self, name: FlowName, tasks: asyncio.TaskGroup) -> tuple[str, bool]:
        """Return the ID of a flow, empty: there is none, and whether any flow has a URL of its own.

        FlowhookError: the check failed, or too many names are waiting.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise UnavailableError("too many lookups of unknown flows", reason="LOOKUPS_FULL")
        answer: asyncio.Future[tuple[str, bool]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, []).append(answer)
        if self._asking is None:
            self._asking = tasks.create_task(self._ask(), name="ask which flows there are")
        try:
            return await answer
        finally:
            others = self._waiting.get(name, [])
            if answer in others:  # the caller gave up
                others.remove(answer)
                if not others:
                    del self._waiting[name]

    async def _ask(self) -> None:
        try:
            now = asyncio.get_running_loop().time
            while self._waiting:
                await asyncio.sleep(self._next_at - now())
                self._next_at = now() + self._pace
                names = list(islice(self._waiting, limits.MAX_FOUND_FLOWS))
                lookups = {name: self._waiting.pop(name) for name in names}
                if lookups:
                    await self._answer(lookups)
        finally:
            self._asking = None

    async def _answer(self, lookups: dict[FlowName, list[asyncio.Future[tuple[str, bool]]]]) -> None:
        found = FoundFlows({}, has_urls=True)
        failure: FlowhookError | None = None
        try:
            found = await self._router.find_flows(list(lookups), self._seconds)
        except FlowhookError as error:
            failure = error
        except Exception:
            log.exception("asking which flows there are failed")
            failure = UnavailableError("the lookup of a flow failed")
        for name, answers in lookups.items():
            for answer in answers:
                if answer.done():
                    continue
                if failure is None:
                    answer.set_result((found.flow_ids.get(name, ""), found.has_urls))
                else:
                    answer.set_exception(failure)


K = TypeVar("K")
V = TypeVar("V")


def _put(table: OrderedDict[K, V], key: K, value: V, most: int) -> K | None:
    """Put an entry last; if there are more than `most` then, evict the first one, and return its key."""
    table[key] = value
    table.move_to_end(key)
    return table.popitem(last=False)[0] if len(table) > most else None


@attrs.define(eq=False, repr=False)
class FlowCache:
    """The cache of flow endpoints. Lookups, and use of the cache, require `run` to be running."""

    _router: RouterClient
    _metrics: EdgeMetrics
    _size: int = attrs.field(kw_only=True)  # flows that are cached, and as many IDs of unknown flows
    # how long a request waits for the router, even when it joins a lookup that began earlier
    _lookup_seconds: float = attrs.field(kw_only=True)
    _silence_seconds: float = attrs.field(kw_only=True, default=limits.WATCH_SILENCE_SECONDS)
    _pace_seconds: float = attrs.field(kw_only=True, default=PACE_SECONDS)
    # called with the reason when the cache becomes unusable, and with an empty string when it recovers
    _on_state: Callable[[str], None] = attrs.field(kw_only=True, default=lambda _lack: None)
    _now: Callable[[], float] = attrs.field(init=False, factory=lambda: asyncio.get_running_loop().time)
    _lacks: set[str] = attrs.field(init=False, factory=set)  # logged since the watch was last in order
    _known: OrderedDict[str, FlowEndpoints] = attrs.field(init=False, factory=OrderedDict)
    _unknown: OrderedDict[str, None] = attrs.field(init=False, factory=OrderedDict)
    # IDs outside the cache that belong to flows according to the latest report
    _named: OrderedDict[str, None] = attrs.field(init=False, factory=OrderedDict)
    _existence: _FlowExistence = attrs.field(init=False)
    _urls: OrderedDict[tuple[str, str], str] = attrs.field(init=False, factory=OrderedDict)  # of flows' own, once known
    _unknown_urls: OrderedDict[tuple[str, str], None] = attrs.field(init=False, factory=OrderedDict)
    _no_urls: bool = attrs.field(init=False, default=False)  # whether no flow has a URL of its own
    _lookups: dict[str, _Lookup] = attrs.field(init=False, factory=dict)
    _slots: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(MAX_LOOKUPS))
    _tasks: asyncio.TaskGroup | None = attrs.field(init=False, default=None)
    _revision: int = attrs.field(init=False, default=0)
    _trusted_until: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._existence = _FlowExistence(self._router, self._lookup_seconds, self._pace_seconds)

    @property
    def cached(self) -> int:
        return len(self._known) + len(self._unknown)

    async def find(self, flow_id: str) -> FlowEndpoints | None:
        """Return a flow's endpoints, None without a webhook; does not suspend on a hit. May raise FlowhookError."""
        if self._now() < self._trusted_until:
            endpoints = self._known.get(flow_id)
            if endpoints is not None:
                self._known.move_to_end(flow_id)
                self._metrics.cache_hits += 1
                return endpoints
            if flow_id in self._unknown:
                self._unknown.move_to_end(flow_id)
                self._metrics.cache_hits += 1
                return None
        if _FLOW_ID.fullmatch(flow_id) is None or len(flow_id) > limits.MAX_FLOW_ID_LENGTH:
            return None
        self._metrics.cache_misses += 1
        try:
            async with asyncio.timeout(self._lookup_seconds):
                while True:
                    try:
                        return await asyncio.shield(self._lookup(flow_id).result)
                    except _LookupTimedOutError:  # it began before this request, which has time left
                        continue
        except TimeoutError:
            raise _LookupTimedOutError from None

    async def find_url(self, host: str, path: str) -> tuple[FlowEndpoints, str | None] | None:
        """Return the flow to whose own URL a request was sent, and the suffix, None: there is none; None: no flow.

        `host` may have a port. Does not suspend on a hit. May raise FlowhookError.
        """
        if len(path) > limits.MAX_PATH_LENGTH:
            return None
        key = host, _ = own_urls.host_name(host), path
        if self._now() < self._trusted_until:
            if self._no_urls:
                return None
            for flow_id in own_urls.find(self._urls, host, path):
                if (found := await self._at_url(flow_id, host, path)) is not None:
                    return found
            if key in self._unknown_urls:
                self._unknown_urls.move_to_end(key)
                return None
        flow_id = await self._ask_url(key)
        return await self._at_url(flow_id, host, path) if flow_id else None

    async def _ask_url(self, key: tuple[str, str]) -> str:
        """Return the flow at the URL that the router knows, and remember that there is none; empty: there is none."""
        if self._tasks is None:
            raise UnavailableError("the edge is starting")
        revision = self._revision
        try:
            async with asyncio.timeout(self._lookup_seconds):
                flow_id, has_urls = await self._existence.of(key, self._tasks)
        except TimeoutError:
            raise _LookupTimedOutError from None
        if not flow_id and revision == self._revision:  # else it may have been added meanwhile
            self._no_urls = not has_urls
            _put(self._unknown_urls, key, None, self._size)
        return flow_id

    async def _at_url(self, flow_id: str, host: str, path: str) -> tuple[FlowEndpoints, str | None] | None:
        endpoints = await self.find(flow_id)
        if endpoints is None or endpoints.own_url is None or not endpoints.own_url.takes(host, path):
            return None
        _put(self._urls, endpoints.own_url[:2], flow_id, 2 * self._size)
        return endpoints, endpoints.own_url.suffix(path)

    def drop(self, flow_id: str) -> None:
        if self._known.pop(flow_id, None) is not None:
            self._name(flow_id)
        self._unknown.pop(flow_id, None)

    def _name(self, flow_id: str) -> None:
        _put(self._named, flow_id, None, self._size)

    async def run(self) -> None:
        """Follow the router's registry of flows, over a new call whenever one ends; runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            while True:
                try:
                    await self._watch()
                except OutOfRangeError as error:
                    self._forget_all()
                    named = error.metadata.get("revision", "")
                    self._revision = int(named) if named.isdecimal() else 0
                except FlowhookError as error:
                    self._tell_lack(error.reason, error.message)
                except TimeoutError:
                    self._tell_lack("WATCH_SILENT", "the router's watch of flows went silent")
                await asyncio.sleep(RECONNECT_SECONDS)

    def _tell_lack(self, reason: str, detail: str) -> None:
        if reason not in self._lacks:  # each one once, not for every attempt
            log.warning("watch of flows interrupted", reason=reason, detail=detail + probable_cause(detail))
        self._lacks.add(reason)
        if self._now() >= self._trusted_until:
            self._on_state(f"flows can't be watched: {reason} ({detail})")

    async def _watch(self) -> None:
        """Apply the changes of one stream until it ends, by FlowhookError too; TimeoutError: it went silent."""
        caught_up = False
        changes = self._router.watch(self._revision)
        try:
            while True:
                async with asyncio.timeout(self._silence_seconds):
                    change = await anext(changes)
                self._apply(change)
                # changes before the first progress mark are history, and more may follow
                caught_up = caught_up or not (change.flow_id or change.secret_name)
                if caught_up:
                    if self._now() >= self._trusted_until:
                        self._on_state("")
                    if self._lacks:
                        log.info("watch of flows goes on", interrupted_by=sorted(self._lacks))
                    self._lacks.clear()
                    self._trusted_until = self._now() + self._silence_seconds
        except StopAsyncIteration:
            return
        finally:
            await changes.aclose()

    def _apply(self, change: WatchFlowsResponse) -> None:
        if change.revision < self._revision or self._revision == 0:
            # A different history (a restored database), or the first message of a watch: what was looked up before may
            # have changed unnoticed.
            self._forget_all()
        self._revision = change.revision
        for lookup in self._lookups.values():
            lookup.changes.append(change)
        if change.flow_id:
            self.drop(change.flow_id)
            self._name(change.flow_id)
            self._unknown_urls.clear()
            self._no_urls = False
        elif change.secret_name:
            for endpoints in [each for each in self._known.values() if change.secret_name in each.secret_names]:
                self.drop(endpoints.flow_id)

    def known(self, first: str, limit: int) -> list[FlowEndpoints]:
        """Return up to `limit` of the most recently used cached flows, preceded by the flow `first` if it is cached."""
        own = self._known.get(first)
        latest = islice(reversed(self._known.values()), limit)
        return ([] if own is None else [own]) + [each for each in latest if each is not own]

    def _forget_all(self) -> None:
        for flow_id in self._known:
            self._name(flow_id)
        self._known.clear()
        self._unknown.clear()
        self._urls.clear()
        self._unknown_urls.clear()
        self._no_urls = False
        for lookup in self._lookups.values():
            lookup.doubtful = True

    def _lookup(self, flow_id: str) -> _Lookup:
        lookup = self._lookups.get(flow_id)
        if lookup is None:
            if self._tasks is None:
                raise UnavailableError("the edge is starting")
            lookup = _Lookup(asyncio.get_running_loop().create_future())
            self._lookups[flow_id] = lookup
            self._tasks.create_task(self._look_up(flow_id, lookup, self._tasks), name=f"look up {flow_id}")
        return lookup

    async def _look_up(self, flow_id: str, lookup: _Lookup, tasks: asyncio.TaskGroup) -> None:
        try:
            async with asyncio.timeout(self._lookup_seconds):
                endpoints = await self._current(flow_id, lookup, tasks)
        except FlowhookError as error:
            lookup.fail(error)
        except TimeoutError:
            lookup.fail(_LookupTimedOutError())
        except Exception:
            log.exception("lookup of a flow failed", flow=flow_id)
            lookup.fail(UnavailableError("the lookup of a flow failed"))
        else:
            self._remember(flow_id, endpoints)
            lookup.result.set_result(endpoints)
        finally:
            del self._lookups[flow_id]
            if not lookup.result.done():
                lookup.fail(UnavailableError("the edge is stopping"))

    async def _current(self, flow_id: str, lookup: _Lookup, tasks: asyncio.TaskGroup) -> FlowEndpoints | None:
        """Look up a flow until its endpoints are at least as new as every change the watch has reported."""
        while True:
            floor = self._revision
            lookup.changes.clear()
            lookup.doubtful = False
            try:
                endpoints = None
                named = flow_id in self._known or flow_id in self._named
                if named or (await self._existence.of(flow_id, tasks))[0]:
                    async with self._slots:
                        endpoints = await self._fetch(flow_id)
            except UnavailableError as error:
                if error.reason == "LOOKUPS_FULL":
                    raise
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            if lookup.doubtful:
                continue
            if endpoints is None:
                if not any(change.flow_id == flow_id for change in lookup.changes):
                    return None
            elif endpoints.revision >= floor and not any(
                change.revision > endpoints.revision
                and (change.flow_id == flow_id or change.secret_name in endpoints.secret_names)
                for change in lookup.changes
            ):
                return endpoints
            await asyncio.sleep(RECHECK_SECONDS)

    async def _fetch(self, flow_id: str) -> FlowEndpoints | None:
        try:
            found = await self._router.get_flow(flow_id, self._lookup_seconds)
            definition = orjson.loads(found.flow.definition)
            raw = definition.get("webhook")
            if raw is None:
                return None
            webhook = Webhook.model_validate(raw)
            secrets, revision = dict[str, bytes](), found.registry_revision
            if names := webhook.secret_names():
                resolved = await self._router.resolve_secrets(flow_id, names, self._lookup_seconds)
                secrets, revision = dict(resolved.values), min(revision, resolved.registry_revision)
        except NotFoundError:
            return None
        except ValidationError:
            log.error("a stored flow can't be read", flow=flow_id)  # noqa: TRY400 - the traceback may hold the author's data
            raise InternalError("the flow can't be read", reason="FLOW_UNREADABLE") from None
        execution = definition.get("execution") or {}
        shaping = shaping_expressions(execution)
        keys = KeyExpressions(order_expression(execution), execution.get("search") or {}, shaping=shaping)
        return FlowEndpoints(flow_id, webhook, secrets, revision, keys=keys, flow_revision=found.flow.revision)

    def _remember(self, flow_id: str, endpoints: FlowEndpoints | None) -> None:
        self._named.pop(flow_id, None)
        if endpoints is None:
            self._known.pop(flow_id, None)
            _put(self._unknown, flow_id, None, self._size)
            return
        if endpoints.own_url is not None:
            _put(self._urls, endpoints.own_url[:2], flow_id, 2 * self._size)
        if evicted := _put(self._known, flow_id, endpoints, self._size):
            self._name(evicted)
