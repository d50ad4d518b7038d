"""The registry of flows and secrets: operations, queries, and the log of changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import apsw
import attrs
from typing_extensions import override

from flowhook.errors import ExhaustedError, FlowhookError, OutOfRangeError
from flowhook.model import Change, Flow, FlowRevision
from flowhook.model.flows import SecretInfo
from flowhook.model.own_urls import OwnUrl
from router.storage.limits import DEFAULT_PAGE, StorageLimits
from router.storage.part import StoragePart, reading, writing
from router.storage.statements import BEFORE, BatchStatement, write_counter
from router.storage.writer import FunctionOperation

T = TypeVar("T")
_NO_DOCUMENT = "x''"
_FLOW = (
    "SELECT f.flow_id, {document}, r.definition, r.revision, f.paused, r.has_webhook, f.create_time_ms,"
    " r.update_time_ms FROM flow f JOIN flow_revision r ON r.flow_id = f.flow_id"
)
_SUPERSEDED = (
    "SELECT r.revision FROM flow_revision r WHERE r.flow_id = ? AND r.revision <= ? AND (SELECT n.update_time_ms"
    " FROM flow_revision n WHERE n.flow_id = r.flow_id AND n.revision > r.revision ORDER BY n.revision LIMIT 1) < ?"
)
_OF_EXECUTIONS = (
    "SELECT DISTINCT e.flow_revision FROM flow_key k JOIN execution e INDEXED BY execution_by_flow ON e.flow = k.key"
    " WHERE k.flow_id = ?"
)
_FINGERPRINT: Final = "fingerprint of "
"""Beginning of the names of rows in `counter` whose values are the 8 bytes of a fingerprint."""
FORGET_STEP: Final = 32  # most revisions that one transaction removes
_LATEST: Final = BatchStatement(
    _FLOW.format(document=_NO_DOCUMENT) + " WHERE f.flow_id IN ({rows}) AND r.revision = f.revision AND NOT f.deleted"
)
_SEALED: Final = BatchStatement("SELECT name, sealed FROM secret WHERE name IN ({rows})")
_EXISTING: Final = BatchStatement("SELECT flow_id FROM flow WHERE flow_id IN ({rows}) AND NOT deleted")


class RegistryChange(NamedTuple):
    """One change of the registry: exactly one of `flow_id` and `secret_name` is non-empty."""

    revision: int
    flow_id: str
    secret_name: str


class FlowDraft(NamedTuple):
    """A validated document to store as a flow's next revision."""

    id: str
    document: bytes
    definition: bytes
    has_webhook: bool
    reacts: bool = False  # whether the flow has a schedule, or listens for events
    url: OwnUrl | None = None  # URL of its own


class RegistryOperation(FunctionOperation):
    """Runs functions that change the registry, in order, and notifies listeners of the new revision."""

    order = 3

    def __init__(self, limits: StorageLimits) -> None:
        self._limits = limits
        self._notified = 0
        self.listeners: list[Callable[[int], None]] = []

    @override
    def reload(self, connection: apsw.Connection) -> None:
        self._notified = self._notified or _revision(connection)

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[Callable[[apsw.Connection], Any]]) -> list[Any]:
        results, revision = super().apply(connection, arguments), _revision(connection)
        oldest = revision - self._limits.registry_changes
        connection.execute("DELETE FROM registry_change WHERE revision <= ?", (oldest,))
        return [(result, revision) for result in results]

    @override
    def committed(self, results: Sequence[Any]) -> None:
        _, revision = results[0]
        if revision > self._notified:
            self._notified = revision
            for listener in self.listeners:
                listener(revision)


def _revision(connection: apsw.Connection) -> int:
    revision: int = connection.execute("SELECT coalesce(max(revision), 0) FROM registry_change").get
    return revision


def _note(connection: apsw.Connection, *, flow_id: str = "", secret_name: str = "") -> None:
    revision = _revision(connection) + 1
    connection.execute("INSERT INTO registry_change VALUES (?, ?, ?)", (revision, flow_id, secret_name))


def _changes(connection: apsw.Connection, *, after_revision: int, limit: int = DEFAULT_PAGE) -> list[RegistryChange]:
    """Return changes by ascending revision.

    Raises:
        OutOfRangeError: some of them are no longer stored (`REVISION_COMPACTED`); the metadata's `revision` is the
            current one, to continue from.
    """
    oldest = connection.execute("SELECT min(revision) FROM registry_change").get
    if oldest is not None and after_revision < oldest - 1:
        raise OutOfRangeError(
            f"changes up to revision {oldest - 1} are no longer stored: list again",
            reason="REVISION_COMPACTED",
            metadata={"revision": str(_revision(connection))},
        )
    rows = connection.execute(
        "SELECT revision, flow_id, secret_name FROM registry_change WHERE revision > ? ORDER BY revision LIMIT ?",
        (after_revision, limit),
    )
    return [RegistryChange(*row) for row in rows]


def _flow(row: tuple[Any, ...]) -> Flow:
    flow_id, document, definition, revision, paused, has_webhook, created, updated = row
    return Flow(flow_id, document, definition, revision, bool(paused), bool(has_webhook), created, updated)


def _get_flow(connection: apsw.Connection, flow_id: str, *, revision: int = 0) -> Flow | None:
    """Return a revision of a flow; 0: the latest, and None if the flow is deleted or never existed."""
    which = "r.revision = ?" if revision else "r.revision = f.revision AND NOT f.deleted"
    row = connection.execute(
        f"{_FLOW.format(document='r.document')} WHERE f.flow_id = ? AND {which}",
        (flow_id, revision) if revision else (flow_id,),
    ).fetchone()
    return _flow(row) if row else None


def _get_flows(connection: apsw.Connection, flow_ids: Sequence[str]) -> list[Flow]:
    """Return those flows among `flow_ids` that exist, with an empty `document`, each once, in no particular order.

    One read, so that it does not take a turn of a thread for each flow.
    """
    return [_flow(row) for row in _LATEST.fetch(connection, [(flow_id,) for flow_id in sorted({*flow_ids})])]


def _existing_flows(connection: apsw.Connection, flow_ids: Sequence[str]) -> list[str]:
    """Return the IDs among `flow_ids` that belong to existing flows, each once, in no particular order."""
    return list({flow_id for (flow_id,) in _EXISTING.fetch(connection, [(flow_id,) for flow_id in flow_ids])})


def _urls(connection: apsw.Connection) -> dict[str, OwnUrl]:
    """Return the URLs of flows' own, by the ID of the flow."""
    rows = connection.execute("SELECT flow_id, host, path, deeper FROM flow_url")
    return {flow_id: OwnUrl(host, path, bool(deeper)) for flow_id, host, path, deeper in rows}


def find_revision(connection: apsw.Connection, flow_id: str, version: str, *, within: int) -> int | None:
    found: int | None = connection.execute(
        "SELECT r.revision FROM flow f JOIN flow_revision r USING (flow_id) WHERE f.flow_id = ? AND NOT f.deleted"
        " AND r.update_time_ms >= f.create_time_ms"
        " AND r.revision > f.revision - ? AND json_extract(CAST(r.definition AS TEXT), '$.document.version') = ?"
        " ORDER BY r.revision DESC LIMIT 1",
        (flow_id, within, version),
    ).get
    return found


def list_revisions(
    connection: apsw.Connection, flow_id: str, *, before: int | None = None, limit: int = DEFAULT_PAGE
) -> list[FlowRevision]:
    """Return the stored revisions of a flow, newest first, with smaller numbers than `before`; none if unknown."""
    rows = connection.execute(
        "SELECT r.revision, coalesce(json_extract(CAST(r.definition AS TEXT), '$.document.version'), ''),"  # noqa: S608
        " r.update_time_ms FROM flow f JOIN flow_revision r USING (flow_id)"
        f" WHERE f.flow_id = ? AND NOT f.deleted AND r.revision < {BEFORE} ORDER BY r.revision DESC LIMIT ?",
        (flow_id, before, limit),
    )
    return [FlowRevision(*row) for row in rows]


def _forgettable(connection: apsw.Connection, *, superseded_before_ms: int, retained: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    many = "SELECT flow_id, revision FROM flow WHERE revision > ? AND NOT deleted"
    rows: list[Any] = connection.execute(many, (retained,)).fetchall()
    for flow_id, latest in rows:
        former = connection.execute(_SUPERSEDED, (flow_id, latest - retained, superseded_before_ms))
        if revisions := {revision for (revision,) in former}:
            # Scan all executions of the flow: an index for an hourly query would cost time on every event.
            revisions.difference_update(revision for (revision,) in connection.execute(_OF_EXECUTIONS, (flow_id,)))
            found += [(flow_id, revision) for revision in revisions]
    return found


def _forget(connection: apsw.Connection, revisions: Sequence[tuple[str, int]]) -> None:
    connection.executemany("DELETE FROM flow_revision WHERE flow_id = ? AND revision = ?", revisions)


def list_flows(
    connection: apsw.Connection, *, after_id: str = "", limit: int = DEFAULT_PAGE, reacting: bool = False
) -> list[Flow]:
    """Return flows by ascending ID, with an empty `document`.

    `reacting`: only those whose latest revision `reacts`; the time taken does not depend on the other flows.
    """
    which = "f.reacts AND" if reacting else ""
    rows = connection.execute(
        f"{_FLOW.format(document=_NO_DOCUMENT)} WHERE {which} f.flow_id > ? AND r.revision = f.revision"
        " AND NOT f.deleted ORDER BY f.flow_id LIMIT ?",
        (after_id, limit),
    )
    return [_flow(row) for row in rows]


def _apply(connection: apsw.Connection, draft: FlowDraft, now_ms: int) -> tuple[Flow, Change]:
    stored = _get_flow(connection, draft.id)
    if stored and stored.document == draft.document and stored.definition == draft.definition:
        return stored, Change.UNCHANGED
    # The revisions of a deleted flow continue to be numbered, as caches elsewhere may hold its earlier ones.
    last: int = connection.execute("SELECT revision FROM flow WHERE flow_id = ?", (draft.id,)).get or 0
    flow = Flow(
        id=draft.id,
        document=draft.document,
        definition=draft.definition,
        revision=last + 1,
        paused=bool(stored and stored.paused),
        has_webhook=draft.has_webhook,
        create_time_ms=stored.create_time_ms if stored else now_ms,
        update_time_ms=now_ms,
    )
    connection.execute(
        "INSERT OR REPLACE INTO flow (flow_id, revision, paused, deleted, create_time_ms, reacts)"
        " VALUES (?, ?, ?, 0, ?, ?)",
        (flow.id, flow.revision, flow.paused, flow.create_time_ms, draft.reacts),
    )
    connection.execute(
        "INSERT INTO flow_revision (flow_id, revision, document, definition, has_webhook, update_time_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (flow.id, flow.revision, flow.document, flow.definition, flow.has_webhook, now_ms),
    )
    connection.execute("DELETE FROM flow_url WHERE flow_id = ?", (flow.id,))
    if draft.url is not None:
        connection.execute("INSERT INTO flow_url VALUES (?, ?, ?, ?)", (flow.id, *draft.url))
    _note(connection, flow_id=flow.id)
    return flow, Change.UPDATED if stored else Change.CREATED


def _apply_flows(connection: apsw.Connection, drafts: Sequence[FlowDraft], *, now_ms: int) -> list[tuple[Flow, Change]]:
    """Store flows, all of them or none; a draft with the stored document and definition is unchanged."""
    return [_apply(connection, draft, now_ms) for draft in drafts]


def _set_paused(connection: apsw.Connection, flow_id: str, *, paused: bool) -> Flow | None:
    """Pause or resume a flow; None if absent. If that changes nothing, no revision is made."""
    stored = _get_flow(connection, flow_id)
    if stored is None or stored.paused == paused:
        return stored
    connection.execute("UPDATE flow SET paused = ? WHERE flow_id = ?", (paused, flow_id))
    _note(connection, flow_id=flow_id)
    return _get_flow(connection, flow_id)


def _delete_flow(connection: apsw.Connection, flow_id: str) -> bool:
    """Delete a flow; false when there was none.

    Its revisions stay readable while any of its executions is stored, and until `expire` is called with a time
    after the deletion, because an event may still be in transit. Revision numbers are not reused.
    """
    if _get_flow(connection, flow_id) is None:
        return False
    now_ms = time.time_ns() // 1_000_000
    connection.execute("UPDATE flow SET deleted = ?, paused = 0, reacts = 0 WHERE flow_id = ?", (now_ms, flow_id))
    connection.execute("DELETE FROM flow_url WHERE flow_id = ?", (flow_id,))
    _note(connection, flow_id=flow_id)
    return True


def _set_secret(connection: apsw.Connection, name: str, sealed: bytes, now_ms: int, most: int) -> None:
    others: int = connection.execute("SELECT count(*) FROM secret WHERE name <> ?", (name,)).get
    if others >= most and not _get_secrets(connection, [name]):
        raise ExhaustedError(f"the maximum of {most} secrets is reached", reason="TOO_MANY_SECRETS")
    connection.execute("INSERT OR REPLACE INTO secret VALUES (?, ?, ?)", (name, sealed, now_ms))
    _note(connection, secret_name=name)


def _get_secrets(connection: apsw.Connection, names: Collection[str]) -> dict[str, bytes]:
    return dict(_SEALED.fetch(connection, [(name,) for name in names]))


def _list_secrets(connection: apsw.Connection) -> list[SecretInfo]:
    return [SecretInfo(*row) for row in connection.execute("SELECT name, update_time_ms FROM secret ORDER BY name")]


def read_fingerprint(connection: apsw.Connection, name: str) -> str:
    value: int | None = connection.execute("SELECT value FROM counter WHERE name = ?", (_FINGERPRINT + name,)).get
    return "" if value is None else value.to_bytes(8, signed=True).hex()


def _set_fingerprint(connection: apsw.Connection, name: str, value: str) -> None:
    """Store 16 hex digits by which something outside of the storage is recognised that belongs to the data."""
    write_counter(connection, _FINGERPRINT + name, int.from_bytes(bytes.fromhex(value), signed=True))


def _delete_secret(connection: apsw.Connection, name: str) -> bool:
    connection.execute("DELETE FROM secret WHERE name = ?", (name,))
    if not connection.changes():
        return False
    _note(connection, secret_name=name)
    return True


@attrs.define(eq=False, repr=False)
class Registry(StoragePart):
    """Flows and secrets. Every change gets the next registry-wide revision, from 1."""

    _operation: RegistryOperation
    _limits: StorageLimits

    revision = reading(_revision)
    get_flow = reading(_get_flow)
    get_flows = reading(_get_flows)
    existing_flows = reading(_existing_flows)
    urls = reading(_urls)
    list_revisions = reading(list_revisions)
    list_flows = reading(list_flows)
    get_secrets = reading(_get_secrets)
    list_secrets = reading(_list_secrets)
    fingerprint = reading(read_fingerprint)
    changes = reading(_changes)
    apply_flows = writing(
        _apply_flows,
        size=lambda drafts, **_keywords: sum(len(draft.document) + len(draft.definition) for draft in drafts),
    )
    set_paused = writing(_set_paused)
    delete_flow = writing(_delete_flow)
    delete_secret = writing(_delete_secret)
    set_fingerprint = writing(_set_fingerprint)

    async def find_revision(self, flow_id: str, *, version: str) -> int | None:
        """Return the latest revision of a flow whose document has a version (`document.version`).

        None when there is no such flow, or no such revision among its last `limits.KEPT_REVISIONS`. Revisions from
        before a flow was deleted do not count.
        """
        return await self._readers.run(
            lambda connection: find_revision(connection, flow_id, version, within=self._limits.revisions)
        )

    async def forget_revisions(self, *, superseded_before_ms: int) -> int:
        """Remove revisions that were replaced before a Unix time; return their number.

        The last `limits.KEPT_REVISIONS` of a flow, and those that executions run, stay.
        """
        # A revision no execution uses now is never used again: replays and sub-flows only use retained revisions.
        forgotten = await self._readers.run(
            partial(_forgettable, superseded_before_ms=superseded_before_ms, retained=self._limits.revisions)
        )
        for start in range(0, len(forgotten), FORGET_STEP):
            await self._write(partial(_forget, revisions=forgotten[start : start + FORGET_STEP]))
        return len(forgotten)

    async def set_secret(self, name: str, sealed: bytes, *, now_ms: int) -> SecretInfo:
        """Create or replace a secret. `sealed` is already encrypted.

        Raises ExhaustedError if there are `limits.MAX_SECRETS` already (`TOO_MANY_SECRETS`).
        """
        most = self._limits.secrets
        await self._write(lambda connection: _set_secret(connection, name, sealed, now_ms, most), size=len(sealed))
        return SecretInfo(name, now_ms)

    def follow(self, listener: Callable[[int], None]) -> None:
        """Call `listener` on the event loop with the latest revision after each change."""
        self._operation.listeners.append(listener)

    @override
    async def _write(self, change: Callable[[apsw.Connection], T], *, size: int = 0, refusable: bool = False) -> T:
        result: T | FlowhookError
        result, _ = await self._writer.call(self._operation, change, size=size, refusable=refusable)
        if isinstance(result, FlowhookError):
            raise result
        return result
