"""Writes a log anew, while no router runs, at an operator's request.

`LogRebuilding` makes a new log of a router's view, after the log was lost: it was deleted, or lacks records that it
acknowledged. The view becomes the snapshot at position 0 of the new log. What the lost log had after the view is lost;
other views continue no log any more, and are to be removed.

`LogSealing` rewrites a log of an earlier version: sealed, and in today's format of the database. The log stays the same
one, and so do the views of routers: a sealed snapshot at its end takes the place of all records. What is there is
believed, this once: that is why nobody but an operator can ask for it.

Until the last step of either no router starts, and whatever interrupts it, it can be repeated.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import attrs

from flowhook.errors import ConflictError, NotFoundError
from flowhook.security.private_files import make_directory
from router.storage.blobs import BlobCache, named_blobs
from router.storage.commit_log.interface import CommitLog, Heartbeats, LogReplacedError, ReplicatedLog
from router.storage.commit_log.refusals import RefusedKind
from router.storage.formats import EARLIEST, migrate_view
from router.storage.replicated.batch import decode
from router.storage.replicated.follower import Follower, LogDamagedError
from router.storage.replicated.snapshots import SnapshotStore, copy_view, working_directory
from router.storage.replicated.view import View, ViewPosition
from router.storage.schema import FORMAT_VERSION

LOG_FACT: Final = "log_identity"  # fact that names the log that the routers use
FORMAT_FACT: Final = "database_format"  # fact that says which format of the database the records and snapshots have
KEY_FACT: Final = "secrets_key"  # fact that tells the routers' key of secrets from others, and reveals nothing of it


@dataclass(frozen=True, slots=True)
class RebuiltLog:
    """A new log."""

    position: int  # position of the lost log up to which nothing is missing
    uploaded: int  # large payloads and bodies that the object store lacked, and this router had
    missing: int  # those that neither has


def refuse_routers(heartbeats: Heartbeats, seconds: float) -> None:
    """Raise ConflictError (`ROUTER_RUNNING`) if routers were seen within the last seconds."""
    since = time.monotonic() - seconds
    if heard := sorted(name for name, at in heartbeats.seen().items() if at >= since):
        raise ConflictError(f"{', '.join(heard)} runs on this log: stop all routers first", reason="ROUTER_RUNNING")


@attrs.define(eq=False, repr=False)
class LogRebuilding:
    """Makes a new log of a view. Blocks."""

    _replicated: ReplicatedLog
    """The log that is there instead of the lost one, the objects, facts and heartbeats of routers."""
    _renew: Callable[[], str]
    """Deletes the log that is there, creates an empty one, and returns its identity."""
    _heartbeat_seconds: float = attrs.field(kw_only=True)
    """For how long running routers are looked for."""

    def rebuild(self, view: View, *, discard: bool = False) -> RebuiltLog:
        """Make the log, and let the view, of a router that does not run, continue it. It can be repeated.

        `discard`: delete another log that was created in place of the lost one, with its records.

        Raises:
            NotFoundError: there is no view, or it was written before the machine last booted (`VIEW_UNUSABLE`).
            ConflictError: a router runs (`ROUTER_RUNNING`), the log has all that the view has, and is not damaged
                (`LOG_INTACT`), or it is another log, which has records (`LOG_NOT_EMPTY`).
            UnavailableError: the log, its object store, or the disk can't serve.
        """
        position = view.position()
        if position is None:
            raise NotFoundError(
                f"there is no view at {view.path} of this version that was written since this machine booted: take that"
                " of the router whose position is highest",
                reason="VIEW_UNUSABLE",
            )
        time.sleep(self._heartbeat_seconds)
        refuse_routers(self._replicated.heartbeats, self._heartbeat_seconds)
        position = self._refuse_intact(view, position)
        if not discard:
            tail = self._replicated.log.tail()
            if position.log != self._replicated.log.identity and tail is not None:
                raise ConflictError(
                    f"another log was created in place of the lost one, and has {tail.position} records: they would be"
                    " deleted; repeat with --discard-log if they are not needed",
                    reason="LOG_NOT_EMPTY",
                )
        with working_directory(view.path.parent / ".rebuilding") as directory:
            copy = View(directory / "copy")
            make_directory(copy.path.parent)
            return self._rebuild(view, position, copy, SnapshotStore(self._replicated.objects, directory / "snapshots"))

    def _rebuild(self, view: View, position: ViewPosition, copy: View, snapshots: SnapshotStore) -> RebuiltLog:
        copy_view(view.path, copy.path)
        blobs = BlobCache(view.path.parent / "blobs", self._replicated.objects)
        with view.connected() as connection:
            lacking = named_blobs(connection) - blobs.stored()
        found = [name for name in lacking if blobs.path(name).exists()]
        for name in found:
            blobs.publish(name)
        # A hash of its own, so that no record that was written after an empty view fits this one.
        first = ViewPosition(self._renew(), last_hash=secrets.token_bytes(16), epoch=position.epoch)
        copy.adopt(first)
        snapshots.make(copy.path)
        for each in snapshots.positions():
            if each > 0:  # of the lost log
                self._replicated.objects.delete(snapshots.name(each))
        view.adopt(first)
        self._replicated.facts.replace(FORMAT_FACT, str(FORMAT_VERSION))
        self._replicated.facts.replace(LOG_FACT, first.log)  # last: until then, routers refuse to start
        return RebuiltLog(position.position, len(found), len(lacking) - len(found))

    def _refuse_intact(self, view: View, position: ViewPosition) -> ViewPosition:
        """Apply what the log still has, up to where it is damaged; return what the view contains."""
        follower = Follower(self._replicated.log, view, position)
        try:
            tail = self._replicated.log.tail()
            follower.catch_up(position.position if tail is None else max(position.position, tail.position))
            follower.end()
        except (LogReplacedError, LogDamagedError):
            return follower.position
        raise ConflictError(
            "the log has everything that this view has: there is nothing to rebuild, start the routers",
            reason="LOG_INTACT",
        )


TRANSFERS: Final = 4  # objects that are sealed at a time
WAIT_SECONDS: Final = 5.0  # how long the first record is waited for


@dataclass(frozen=True, slots=True)
class LogSealed:
    """What was sealed."""

    position: int  # of the log, up to which everything is in the snapshot
    objects: int  # large payloads and bodies
    missing: int  # those of them that were not there
    in_clear: bool  # whether the log was stored in clear


@attrs.define(eq=False, repr=False)
class LogSealing:
    """Seals a log. Blocks."""

    _plain: ReplicatedLog  # as the early version reads it
    _sealed: ReplicatedLog  # the same log, as routers read and write it
    _fingerprint: str = attrs.field(kw_only=True)  # of the key of secrets
    _is_sealed: Callable[[bytes], bool] = attrs.field(kw_only=True)  # of the beginning of an object
    _heartbeat_seconds: float = attrs.field(kw_only=True)  # for how long running routers are looked for
    _was_sealed: bool = attrs.field(init=False, default=False)

    def seal(self, directory: Path) -> LogSealed:
        """Seal everything; temporary files are in `directory`, which is removed.

        Raises:
            NotFoundError: nothing was ever stored in the log (`LOG_EMPTY`).
            ConflictError: a router runs (`ROUTER_RUNNING`), the log is sealed (`LOG_SEALED`), or not the one that the
                routers have used (`LOG_REPLACED`), or the key is not theirs (`SECRETS_KEY_DIFFERS`).
            UnavailableError: the log, its object store, or the disk can't serve.
        """
        self._refuse_routers()
        self._check_facts()
        with working_directory(directory):
            return self._seal(directory)

    def _seal(self, directory: Path) -> LogSealed:
        snapshots = SnapshotStore(self._sealed.objects, directory / "snapshots")
        position = self._restore(snapshots, directory)
        view = View(directory / "view")
        with view.connected() as connection:
            names = {BlobCache(directory, self._plain.objects).object_name(each) for each in named_blobs(connection)}
        found: list[bool] = []
        if not self._was_sealed:
            with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="seal") as pool:
                found = list(pool.map(lambda name: self._seal_object(name, directory), sorted(names)))
        snapshots.make(view.path)
        if snapshots.restore(directory / "check" / "view.db", log_identity=self._sealed.log.identity) != position:
            raise ConflictError("the sealed snapshot can't be restored", reason="SNAPSHOT_DAMAGED")
        if position:
            self._sealed.log.purge(position)
        # what nothing names would remain readable for everybody
        for name in {*self._sealed.objects.names("")} - {*names, snapshots.name(position)}:
            self._sealed.objects.delete(name)
        self._sealed.objects.remove_orphans(older_than=0)  # interrupted uploads: in clear, and without a name
        self._sealed.facts.replace(KEY_FACT, self._fingerprint)
        self._sealed.facts.replace(FORMAT_FACT, str(FORMAT_VERSION))
        self._sealed.facts.replace(LOG_FACT, self._sealed.log.identity)  # last: until then, routers refuse to start
        return LogSealed(position, sum(found), len(found) - sum(found), not self._was_sealed)

    def _restore(self, snapshots: SnapshotStore, directory: Path) -> int:
        """Make a view of everything that is stored, of today's format; return the position of the log's end."""
        tail = self._plain.log.tail()
        end = 0 if tail is None else tail.position
        newest = max(snapshots.positions(), default=None)
        if newest is None and not end:
            raise NotFoundError("the log is empty: start the routers", reason="LOG_EMPTY")
        # a sealed snapshot in a log in clear: sealing was interrupted, or its fact was changed by somebody else
        sealed = False
        if newest is not None:
            with self._fetched(snapshots.name(newest), directory) as path:
                sealed = path is not None and self._begins_sealed(path)
        source = self._sealed if sealed or self._was_sealed else self._plain
        view = View(directory / "view")
        make_directory(view.path.parent)
        early = SnapshotStore(source.objects, directory / "early", earliest=EARLIEST)
        position = early.restore_view(view, source.log.identity)
        if position is None:
            view.version = _first_format(source.log)
            position = view.create(source.log.identity)
        if position.position < end:
            follower = Follower(source.log, view, position)
            follower.catch_up(end)
            position = follower.end()
        view.adopt(position)
        migrate_view(view.path)
        return position.position

    def _seal_object(self, name: str, directory: Path) -> bool:
        """Store an object again, sealed; false if absent."""
        with self._fetched(name, directory) as path:
            if path and not self._begins_sealed(path):
                self._sealed.objects.put(name, path)
            return path is not None

    @contextmanager
    def _fetched(self, name: str, directory: Path) -> Iterator[Path | None]:
        """Yield the file of an object as it is stored, which is removed afterwards; None if absent."""
        path = directory / name.replace("/", "_")
        try:
            yield path if self._plain.objects.get(name, path) else None
        finally:
            path.unlink(missing_ok=True)

    def _begins_sealed(self, path: Path) -> bool:
        with path.open("rb") as file:
            return self._is_sealed(file.read(64))

    def _refuse_routers(self) -> None:
        time.sleep(self._heartbeat_seconds)
        running = sorted(self._sealed.heartbeats.seen())
        if running or self._sealed.refusals.count(RefusedKind.HEARTBEAT):  # those of early versions can't be opened
            names = ", ".join(running) or "a router"
            raise ConflictError(f"{names} runs on this log: stop all routers first", reason="ROUTER_RUNNING")

    def _check_facts(self) -> None:
        known = self._plain.facts.get(LOG_FACT)
        fingerprint = (self._plain.facts.get(KEY_FACT) or self._fingerprint).split(" ")[0]
        try:
            sealed = known is not None and self._sealed.facts.get(LOG_FACT) is not None
        except ConflictError:
            sealed = False
        if sealed and self._sealed.facts.get(FORMAT_FACT) == str(FORMAT_VERSION):
            raise ConflictError("the log is sealed already: start the routers", reason="LOG_SEALED")
        self._was_sealed = sealed
        if fingerprint != self._fingerprint:
            raise ConflictError(
                "the key of secrets is not that of the routers: name their data directory, or set FLOWHOOK_SECRETS_KEY",
                reason="SECRETS_KEY_DIFFERS",
            )
        if known is not None and known.split(" ")[0] != self._sealed.log.identity:
            raise LogReplacedError(
                "the log is not the one that the routers have used: it was deleted and created again"
            )


def _first_format(log: CommitLog) -> int:
    """Return the format of the tables that the first records of a log change."""
    for record in log.read(0, wait_seconds=WAIT_SECONDS):
        if not record.void:
            return decode(record.data).ownership.schema
    return FORMAT_VERSION
