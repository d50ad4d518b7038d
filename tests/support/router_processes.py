"""Routers on a replicated log as processes, which can be stopped, continued, or have a clock of their own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress

import grpc
from support.commands import clean_environment
from support.patience import PATIENCE
from support.ports import free_port

from flowhook.client import AsyncClient
from flowhook.client.channel import connect
from flowhook.security.tokens import ensure_tokens
from flowhook.v1 import shard_service_pb2, shard_service_pb2_grpc
from router.storage.encryption import load_secrets_key


class RouterProcess:
    """One router; it runs from construction to `stop`."""

    def __init__(self, directory, name, url, **environment):
        self.name = name
        self.view_dir = directory / name
        self.target = f"127.0.0.1:{free_port()}"
        self._directory = directory
        self._log = directory / f"{name}.log"
        variables = {
            "FLOWHOOK_DATA_DIR": directory,
            "FLOWHOOK_STORAGE": url,
            "FLOWHOOK_VIEW_DIR": self.view_dir,
            "FLOWHOOK_PROCESS_NAME": name,
            "FLOWHOOK_GRPC_PORT": self.target.rpartition(":")[2],
            "FLOWHOOK_DRAIN_SECONDS": "0.1",
            "FLOWHOOK_LEASE_SECONDS": "60",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli", "router"],
                stdout=log,
                stderr=log,
                env=clean_environment(**variables, **environment),
            )

    @property
    def log(self):
        return self._log.read_text()

    def token(self, role="admin"):
        return (self._directory / f"{role}.token").read_text().strip()

    def client(self):
        return AsyncClient(self.target, token=self.token(), timeout=PATIENCE)

    def send(self, number):
        self._process.send_signal(number)

    async def shard(self):
        """Return the shard as this router knows it; None while it does not answer."""
        assert self._process.poll() is None, self.log
        async with connect(self.target, self.token()) as channel:
            stub = shard_service_pb2_grpc.ShardServiceStub(channel)
            with suppress(grpc.RpcError):
                response = await stub.GetShards(shard_service_pb2.GetShardsRequest(), timeout=PATIENCE)
                return response.shards[0]
        return None

    async def until(self, condition):
        """Wait until `condition` holds for the shard as this router knows it, and return that."""
        async with asyncio.timeout(PATIENCE):
            while (shard := await self.shard()) is None or not condition(shard):
                await asyncio.sleep(0.02)
        return shard

    async def serves(self):
        """Wait until it is the owner and serves."""
        return await self.until(lambda shard: shard.owner.serving and shard.owner.router == self.name)

    async def follows(self, owner):
        """Wait until it follows that owner and has all that the log has."""
        return await self.until(lambda shard: self._is_level(shard, owner))

    async def follows_now(self, owner):
        """Whether it follows that owner and has all that the log has."""
        shard = await self.shard()
        return shard is not None and self._is_level(shard, owner)

    def _is_level(self, shard, owner):
        own = next(copy for copy in shard.copies if copy.router == self.name)
        return shard.owner.router == owner.name and own.state == "following" and own.position >= shard.position

    def stop(self):
        """End it in order, and wait for that."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)
        self._process.wait(PATIENCE)


class RouterProcesses:
    """Routers that share tokens, a key and a log; `close` ends them."""

    def __init__(self, directory, url):
        self.directory = directory
        self.url = url
        self.routers = []
        directory.mkdir(parents=True, exist_ok=True)
        ensure_tokens(directory)
        load_secrets_key(directory)

    def start(self, name, **environment):
        router = RouterProcess(self.directory, name, self.url, **environment)
        self.routers.append(router)
        return router

    @property
    def target(self):
        return ",".join(router.target for router in self.routers)

    def client(self):
        """Connect to all of them, as clients do that follow the owner."""
        return AsyncClient(self.target, token=self.routers[0].token(), timeout=PATIENCE)

    async def roles(self):
        """Wait until one of two serves and the other one follows it; return both."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for owner, other in (self.routers, self.routers[::-1]):
                    shard = await owner.shard()
                    serves = shard is not None and shard.owner.serving and shard.owner.router == owner.name
                    # the first owner may lose the shard again while both start: so both are asked each time
                    if serves and await other.follows_now(owner):
                        return owner, other
                await asyncio.sleep(0.02)

    async def move(self):
        """Stop the owner until the other one has taken over, and return the new owner and the former one."""
        owner, other = await self.roles()
        owner.send(signal.SIGSTOP)
        await other.serves()
        owner.send(signal.SIGCONT)
        await owner.follows(other)
        return other, owner

    def close(self):
        for router in self.routers:
            router.stop()


CLOCK_SHIFT = 60
"""Seconds that the clock of one router is ahead, where tests have two."""

CLOCK = """
import time
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + {seconds}
time.time_ns = lambda: now_ns() + {seconds} * 1_000_000_000
"""


def shifted_clock(directory, seconds):
    """Return the environment of a process whose clock is ahead."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(CLOCK.format(seconds=seconds))
    return {"PYTHONPATH": directory}
