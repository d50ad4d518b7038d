"""The NATS servers of the replicated log, started here and not by `flowhook up`: three, or one without a quorum.

Their configuration is that of `flowhook up --storage nats:`, except that they don't announce their addresses to
clients, which would go around proxies before them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import nats
import nats.errors
import orjson

from cli.supervisor.cluster_spec import LOOPBACK
from cli.supervisor.nats_servers import CONFIGURATION_FILE, GO_THREADS, NAMES, USER, NatsServers
from flowhook.security.private_files import make_directory

READY_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.05
STEP_DOWN_SECONDS: Final = 2.0
STREAM: Final = "FLOWHOOK_LOG_0"
MONITOR_TIMEOUT: Final = aiohttp.ClientTimeout(total=1)


class LogServers:
    """The servers `NAMES`, or the first of them alone; each may be ended and started again on its ports.

    Args:
        data_dir: a server's data is in `<data_dir>/<name>`.
        alone: one server, which stores everything by itself.
    """

    def __init__(self, data_dir: Path, *, alone: bool = False) -> None:
        make_directory(data_dir)
        self._prepared = NatsServers.prepare(data_dir)
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._names = NAMES[:1] if alone else NAMES
        for name in self._names:
            path = data_dir / name / CONFIGURATION_FILE
            settings = orjson.loads(path.read_bytes())
            if alone:
                del settings["cluster"]
            else:
                settings["cluster"]["no_advertise"] = True
            path.write_bytes(orjson.dumps(settings))

    async def start(self) -> None:
        """Start those that do not run, and wait until all of them are ready.

        Raises:
            TimeoutError: they are not.
        """
        for name in self._names:
            await self.start_one(name)
        async with asyncio.timeout(READY_SECONDS):
            for name in self._names:
                while await self._prepared.lack(name):
                    await asyncio.sleep(PAUSE_SECONDS)

    async def start_one(self, name: str) -> None:
        """Start a server unless it runs."""
        if self.pid(name) is None:
            configuration = self._prepared.data_dir / name / CONFIGURATION_FILE
            self._processes[name] = await asyncio.create_subprocess_exec(
                self._prepared.program, "--config", str(configuration),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                env={**GO_THREADS, **os.environ},
            )  # fmt: skip

    async def end(self, name: str, number: signal.Signals) -> None:
        """End a server with a signal, and wait until it has ended."""
        process = self._processes.get(name)
        if process is not None and process.returncode is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            await process.wait()

    async def kill(self) -> None:
        """Kill all servers at once."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.kill()
        for process in self._processes.values():
            await process.wait()

    async def close(self) -> None:
        """Kill all servers, and release their ports."""
        await self.kill()
        self._prepared.close()

    def pid(self, name: str) -> int | None:
        """Return the process ID of a server; None: it does not run."""
        process = self._processes.get(name)
        return None if process is None or process.returncode is not None else process.pid

    def ports(self) -> Mapping[str, int]:
        """Return the ports for clients, by server."""
        return {name: self._prepared.ports[name].client for name in self._names}

    def url(self, ports: Mapping[str, int]) -> str:
        """Return the URL of the storage, with servers reached at `ports`."""
        servers = ",".join(f"{LOOPBACK}:{port}" for port in ports.values())
        monitors = ",".join(map(self._prepared.monitor, self._names))
        return f"nats://{USER}:{self._prepared.password}@{servers}?replicas={len(self._names)}&monitor={monitors}"

    async def leader(self) -> str:
        """Return the name of the server that leads the stream of the log; empty: none does, as far as is known."""
        async with aiohttp.ClientSession(timeout=MONITOR_TIMEOUT) as session:
            for name in self._names:
                url = f"http://{self._prepared.monitor(name)}/jsz?streams=1&accounts=1"
                with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                    async with session.get(url) as response:
                        if response.ok and _leads(name, await response.json(content_type=None)):
                            return name
        return ""

    async def step_down(self) -> bool:
        """Have the leader of the stream give up its place; false: none did."""
        servers = [f"nats://{LOOPBACK}:{port}" for port in self.ports().values()]
        try:
            client = await nats.connect(
                servers, user=USER, password=self._prepared.password, allow_reconnect=False, connect_timeout=1
            )
            async with client:
                answer = await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}", timeout=STEP_DOWN_SECONDS)
                return bool(orjson.loads(answer.data).get("success"))
        except (nats.errors.Error, OSError, TimeoutError):
            return False


@asynccontextmanager
async def running_log_servers(data_dir: Path, *, alone: bool = False) -> AsyncIterator[LogServers]:
    """Run the servers until the block is left; `alone`: one of them."""
    servers = LogServers(data_dir, alone=alone)
    try:
        await servers.start()
        yield servers
    finally:
        await servers.close()


def _leads(name: str, state: Mapping[str, object]) -> bool:
    accounts = state.get("account_details")
    return isinstance(accounts, list) and any(
        stream["name"] == STREAM and stream.get("cluster", {}).get("leader") == name
        for account in accounts
        for stream in account.get("stream_detail") or ()
    )
