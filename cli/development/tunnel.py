"""Runs a program that makes the edges reachable from the internet, and reads its public URL from what it prints.

Only the HTTP port of the edges is forwarded: console, API and gRPC stay on this machine.

Source: https://developers.cloudflare.com/cloudflare-one/networks/connectors/cloudflare-tunnel/do-more-with-tunnels/trycloudflare/,
https://ngrok.com/docs/agent/cli/, https://tailscale.com/kb/1311/tailscale-funnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cli.output import printable
from cli.supervisor.process_supervisor import describe_exit
from flowhook.errors import InvalidError, UnavailableError

START_SECONDS: Final = 30.0  # in which the program has to print its URL
STOP_SECONDS: Final = 5.0  # after which a program that was asked to end is killed
SHOWN_LINES: Final = 5  # last lines of the program in errors
SHOWN_CHARACTERS: Final = 500  # of each


class TunnelProgram(NamedTuple):
    """A program that makes a tunnel."""

    command: str  # with `{port}`, that of the edges
    url: re.Pattern[str]  # finds the public URL in a line of its output, as group 1


# each sets `X-Forwarded-For`, and sends nothing that a client wrote there; the pages of these programs have other URLs,
# and so have their errors
PROGRAMS: Final = {
    "cloudflared": TunnelProgram(
        "cloudflared tunnel --no-autoupdate --url http://127.0.0.1:{port}",
        re.compile(r"(https://(?!api\.)[a-z0-9-]+\.trycloudflare\.com)\b"),
    ),
    "ngrok": TunnelProgram(
        "ngrok http http://127.0.0.1:{port} --log stdout --log-format logfmt",
        re.compile(r'msg="started tunnel".* url="?(https://[A-Za-z0-9.-]+)'),
    ),
    "tailscale": TunnelProgram("tailscale funnel {port}", re.compile(r"^(https://[a-z0-9.-]+\.ts\.net(?::\d+)?)")),
}
_ANY_URL: Final = re.compile(r"(https://(?!localhost|127\.)[A-Za-z0-9.-]+\.[A-Za-z0-9-]+(?::\d+)?)")


@dataclass(slots=True)
class Tunnel:
    """A program that runs, once its public URL is known."""

    name: str
    process: asyncio.subprocess.Process
    url: asyncio.Future[str] = field(init=False, default_factory=asyncio.Future)
    ended: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _lines: deque[str] = field(init=False, default_factory=lambda: deque(maxlen=SHOWN_LINES))

    async def read(self, pattern: re.Pattern[str]) -> None:
        """Read what it prints until it ends, which a full pipe would stop."""
        assert self.process.stdout is not None  # noqa: S101 - for the type checker; it is a pipe
        while chunk := await _line(self.process.stdout):
            line = chunk.decode(errors="replace").strip()
            self._lines.append(printable(line[:SHOWN_CHARACTERS]))
            if not self.url.done() and (found := pattern.search(line)):
                self.url.set_result(found[1])
        await self.process.wait()
        self.ended.set()

    def describe_end(self) -> str:
        code = self.process.returncode
        how = "printed no URL" if code is None else describe_exit(code)
        return "\n  ".join(
            [f"the tunnel, {self.name}, {how}{'; its last lines:' if self._lines else ''}", *self._lines]
        )


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # longer than the reader's limit, and removed from it
        return b"\n"


@contextlib.asynccontextmanager
async def open_tunnel(command: str, port: int, url: str = "") -> AsyncIterator[Tunnel]:
    """Run the program of a name in `PROGRAMS`, or another command, and stop it at the end.

    `port`: that of the edges, for `{port}` in the command. `url`: the public URL, if it is known and is not printed.

    Raises:
        InvalidError: there is no such program (`TUNNEL_MISSING`).
        UnavailableError: it has ended, or has printed no URL in time (`TUNNEL_FAILED`); says what it printed.
    """
    program = PROGRAMS.get(command, TunnelProgram(command, _ANY_URL))
    words = [word.replace("{port}", str(port)) for word in shlex.split(program.command)]
    path = shutil.which(words[0]) if words else None
    if path is None:
        raise InvalidError(
            f"--tunnel: there is no program {words[0] if words else command!r} on PATH; "
            f"--tunnel takes {', '.join(PROGRAMS)}, or a command with {{port}} that prints its URL",
            reason="TUNNEL_MISSING",
        )
    process = await asyncio.create_subprocess_exec(
        # it ends with this process, however that ends, but not by a Ctrl-C: edges drain first
        *(sys.executable, "-P", "-m", "cli.supervisor.exec_child", str(os.getpid()), path, *words[1:]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("FLOWHOOK_")},
        start_new_session=True,
    )
    tunnel = Tunnel(words[0], process)
    reading = asyncio.create_task(tunnel.read(program.url))
    try:
        if url:
            tunnel.url.set_result(url)
        await asyncio.wait((reading, tunnel.url), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not tunnel.url.done():
            raise UnavailableError(tunnel.describe_end(), reason="TUNNEL_FAILED")
        yield tunnel
    finally:
        # until what it has started has ended, too, or has closed its output
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not reading.done():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                await asyncio.wait((reading,), timeout=STOP_SECONDS)
        reading.cancel()
        await asyncio.wait((reading,))
