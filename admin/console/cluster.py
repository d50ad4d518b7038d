"""`/cluster`."""

from __future__ import annotations

from typing import Any, Final

from admin.console.live import LiveStream
from admin.console.page import ConsolePage, read_live
from operations.cluster import ClusterState
from operations.health import SILENT_SECONDS
from operations.table import GET_CLUSTER

LIVE_SECONDS: Final = 2.0  # time between two looks at the cluster: its processes report as often


class ClusterPage(ConsolePage):
    """`/cluster`: backlog, storage, processes, shards, and the servers of the log; live."""

    async def show(self, *_values: str) -> None:
        query = self.query()
        live = read_live(query)
        self.finish_page("cluster.html", live=live, **_values_of(await self.run(GET_CLUSTER, {}, query)))


class ClusterStream(LiveStream):
    """`/stream/cluster`."""

    operation = GET_CLUSTER
    template = "cluster_state.html"
    interval = LIVE_SECONDS

    def values_of(self, _conditions: Any, result: ClusterState) -> dict[str, Any]:
        return _values_of(result)


def _values_of(cluster: ClusterState) -> dict[str, Any]:
    gone = [process for process in cluster.processes if process.last_seen_seconds > SILENT_SECONDS]
    return {"cluster": cluster, "owners": {shard.owner for shard in cluster.shards}, "gone": gone}
