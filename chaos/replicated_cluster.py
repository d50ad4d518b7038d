"""A cluster on a replicated log that is broken on purpose: three routers, three NATS servers, proxies between them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos.cluster import BrokenCluster, Findings
from chaos.peers import Peers
from chaos.proxies import Proxies
from chaos.replication import examine
from flowhook import limits
from flowhook.errors import FlowhookError
from harness.log_servers import LogServers
from router.storage.commit_log.jetstream import connect
from router.storage.commit_log.seals import ClusterKeys
from router.storage.encryption import require_secrets_key

OWNER_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 60.0


class ReplicatedCluster(BrokenCluster):
    """`flowhook up --routers 3` on `nats://…`, whose servers are reached through proxies.

    Args:
        data_dir: data directory.
        snapshot_log_bytes: growth of the log after which a snapshot is made, behind which the log is purged.

    Attributes:
        servers: the NATS servers.
        proxies: stand between routers and servers.
    """

    routers = ("router-1", "router-2", "router-3")
    inline_bytes = limits.REPLICATED_INLINE_BODY_BYTES

    def __init__(self, data_dir: Path, *, snapshot_log_bytes: int) -> None:
        super().__init__(data_dir, {"FLOWHOOK_SNAPSHOT_LOG_BYTES": str(snapshot_log_bytes)})
        self.servers = LogServers(data_dir.parent / "nats")
        self.proxies = Proxies(self.servers.ports(), Peers(self, self.routers))

    async def start(self) -> None:
        """See `BrokenCluster`."""
        if not self.proxies.ports:
            await self.proxies.start()
        await self.servers.start()
        self._environment["FLOWHOOK_STORAGE"] = self.servers.url(self.proxies.ports)
        await super().start()

    async def kill(self) -> None:
        """See `BrokenCluster`; the NATS servers are killed as well."""
        await self.servers.kill()
        await super().kill()

    async def close(self) -> None:
        """See `BrokenCluster`."""
        await self.kill()
        await self.servers.close()
        await self.proxies.close()

    async def owner(self) -> str:
        """See `BrokenCluster`."""
        try:
            async with asyncio.timeout(OWNER_SECONDS), self.client() as client:
                (shard,) = (await client.cluster.shards()).shards
        except (FlowhookError, TimeoutError):
            return ""
        return shard.owner

    async def examine(self) -> Findings:
        """See `BrokenCluster`."""
        await self.servers.start()
        views = {name: self.data_dir / name for name in self.routers}
        keys = ClusterKeys(require_secrets_key(self.data_dir))
        return await asyncio.to_thread(_examine, self.servers.url(self.servers.ports()), keys, views)

    def pid(self, process: str) -> int | None:
        """See `BrokenCluster`; also of NATS servers."""
        return self.servers.pid(process) or super().pid(process)

    def _options(self) -> Sequence[str]:
        return ("--routers", str(len(self.routers)))


def _examine(url: str, keys: ClusterKeys, views: Mapping[str, Path]) -> Findings:
    log = connect(url, keys, router="chaos", create=False, timeout=CONNECT_SECONDS)
    try:
        return examine(log.log, views)
    finally:
        log.close()
