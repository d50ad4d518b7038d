"""`/cluster`."""

from __future__ import annotations

from admin.console.page import Page
from admin.operations.table import GET_CLUSTER


class ClusterPage(Page):
    """`/cluster`: processes, shards, and the servers of the log."""

    section = "cluster"

    async def show(self, *_values: str) -> None:
        """Respond with the state of the cluster."""
        self.finish_page("cluster.html", cluster=await self.run(GET_CLUSTER, {}))
