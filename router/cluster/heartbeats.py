"""Encodes and decodes the heartbeats of routers as records; their authenticity was checked before."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from router.cluster.records import RouterRecord
from router.storage.commit_log.interface import Heartbeats


@attrs.define(eq=False, repr=False)
class RouterHeartbeats:
    """The heartbeats of this router and of the others. No I/O; use it on one thread."""

    _heartbeats: Heartbeats
    _taken: dict[str, float] = attrs.field(init=False, factory=dict)

    def publish(self, record: RouterRecord) -> None:
        """Announce this router."""
        self._heartbeats.publish(record.encode())

    def news(self) -> Iterator[tuple[RouterRecord, float]]:
        """Yield what other routers announced since the last call, with the time when it was heard."""
        heard = self._heartbeats.heard()
        for router, (time, content) in heard.items():
            if self._taken.get(router) != time:
                record = RouterRecord.decode(content)
                if record is not None and record.router == router:
                    yield record, time
        self._taken = {router: time for router, (time, _) in heard.items()}
