"""Makes a new log of a router's view, while no router runs, at an operator's request.

That is for a log that was lost: it was deleted, or lacks records that it acknowledged. The view becomes the snapshot at
position 0 of the new log. What the lost log had after the view is lost; other views continue no log any more, and are
to be removed.

Until the last step no router starts, and whatever interrupts it, it can be repeated.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import attrs

from flowhook.errors import ConflictError, NotFoundError
from flowhook.security.private_files import make_directory
from router.storage.blobs import BlobCache, named_blobs
from router.storage.commit_log.interface import Heartbeats, LogReplacedError, ReplicatedLog
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
