"""Load generators: at saturation (wrk, else asyncio), and at a fixed rate with latencies."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request that is sent repeatedly."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def encoded(self) -> bytes:
        """Return the request as HTTP/1.1 bytes."""
        parts = urlsplit(self.url)
        fields = {"Host": parts.netloc, "Content-Length": str(len(self.body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


@dataclass(frozen=True, slots=True)
class Saturation:
    """Result of a closed loop of connections; `failed` counts answers other than 2xx."""

    requests: int
    failed: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Requests a second that were answered with 2xx."""
        return (self.requests - self.failed) / self.seconds


async def saturate(request: Request, seconds: float, connections: int = CONNECTIONS) -> Saturation:
    """Send requests over so many connections for `seconds`, each after the answer to the last one."""
    send = _saturate_wrk if shutil.which("wrk") else _saturate_own
    return await send(request, seconds, connections)


def generator() -> str:
    """Return the name of the generator that `saturate` uses."""
    return "wrk" if shutil.which("wrk") else "asyncio"


async def _saturate_wrk(request: Request, seconds: float, connections: int) -> Saturation:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in request.headers.items())
        body = Path(folder, "body")
        body.write_bytes(request.body)
        script.write_text(f"wrk.method = 'POST'\nwrk.body = io.open('{body}', 'rb'):read('*a')\n{headers}")
        process = await asyncio.create_subprocess_exec(
            "wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(script), request.url,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", output)
    if total is None:
        raise RuntimeError(f"unexpected output of wrk: {output}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]]
    return Saturation(int(total[1]), int(failed[1]) if failed else 0, float(total[2]) * unit)


async def _saturate_own(request: Request, seconds: float, connections: int) -> Saturation:
    data, counts, started = request.encoded(), [0, 0], time.monotonic()
    until = started + seconds

    async def loop() -> None:
        connection = await LoadConnection.open(request.url)
        while time.monotonic() < until:
            status = await connection.exchange(data)
            counts[0] += 1
            counts[1] += not 200 <= status < 300
        connection.close()

    await asyncio.gather(*(loop() for _ in range(connections)))
    return Saturation(counts[0], counts[1], time.monotonic() - started)


async def at_rate(request: Request, per_second: float, seconds: float) -> list[float]:
    """Send at a fixed rate over enough connections, and return the latencies in seconds, ascending.

    Latency counts from the time at which a request was due, so it includes the delay by a stalled server.

    Raises:
        RuntimeError: a request was not answered with 2xx.
    """
    data = request.encoded()
    idle: asyncio.Queue[LoadConnection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await LoadConnection.open(request.url))
    latencies: list[float] = []

    async def send(due: float) -> None:
        connection = await idle.get()
        status = await connection.exchange(data)
        latencies.append(time.monotonic() - due)
        idle.put_nowait(connection)
        if not 200 <= status < 300:
            raise RuntimeError(f"answered {status}")

    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(per_second * seconds)):
            due = started + number / per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.create_task(send(due))
    while not idle.empty():
        idle.get_nowait().close()
    return sorted(latencies)


class LoadConnection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> LoadConnection:
        """Connect to the server of `url`."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def exchange(self, data: bytes) -> int:
        """Send a request, read the answer, and return its status."""
        self._writer.write(data)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if length is not None:
            await self._reader.readexactly(int(length[1]))
        return int(head[9:12])

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()
