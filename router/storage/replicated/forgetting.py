"""Removes from the files of a router that follows what was erased: the owner has no access to them.

The rows are gone with the record of the erasure. What is left is in the free space of the view, in cached blobs, and
among the rejections from the time when this router was the owner, which are in no log.
"""

from __future__ import annotations

import contextlib
from typing import Final

import apsw

from router.storage.blobs import BlobDirectory, named_blobs
from router.storage.erasure import Step, is_pending, is_under_way, last_erasure, wipe_step
from router.storage.replicated.view import View
from router.storage.schema import connect_reader

CHECK_SECONDS: Final = 1.0  # between two looks whether anything was erased
STEP_SECONDS: Final = 0.05  # between two steps, in which records are applied


class Forgetting:
    """Removes what was erased from a view and the blobs beside it, on the thread that follows."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._blobs = BlobDirectory(view.path.parent / "blobs")

    def step(self, connection: apsw.Connection) -> float:
        """Remove some of what was erased, and return after how many seconds to go on. Blocks for about 10 ms.

        Raises:
            apsw.Error: the view can't be read or written.
        """
        if not is_pending(connection):
            return CHECK_SECONDS
        if not is_under_way(connection):
            # nobody sees them while this router follows; which of them are of the erased requests, only the owner knew
            connection.execute(
                "DELETE FROM rejection WHERE flow_id IN (SELECT flow_id FROM erasure"
                " WHERE number > coalesce((SELECT done FROM wipe), 0))"
            )
            with contextlib.suppress(OSError):  # they are swept when this router is the owner
                self._blobs.sweep(named_blobs(connection))
        return CHECK_SECONDS if wipe_step(self._view.path) is Step.DONE else STEP_SECONDS


def read_last_erasure(view: View) -> int:
    """Return the number of the last erasure that a view, which may be in use, contains; 0 if absent. Blocks."""
    if not view.path.exists():
        return 0
    try:
        with contextlib.closing(connect_reader(view.path)) as connection:
            return last_erasure(connection)
    except apsw.Error:  # it is being made or replaced
        return 0
