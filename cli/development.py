"""Development on one machine (`flowhook dev`): follows flow files, prints what arrives, and opens a tunnel.

- `WatchedFlows` applies the flow files of a directory when they change; a flow whose file is invalid or deleted stays
  as it is.
- `print_arrivals`: a line for each execution that ends or waits, and for each request that became none.
- `open_tunnel` runs a program that makes the edges reachable from the internet, and reads its public URL from what it
  prints. Only the HTTP port of the edges is forwarded: console, API and gRPC stay on this machine.

All of it runs in the process of the supervisor, which is not small then: it has a client of the router.

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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from cli import embedding, flow_files
from cli.applying import apply_files, read_applied_files, shown_path
from cli.execution_tables import duration, failure, seconds_between
from cli.operation_commands import shown
from cli.output import printable
from cli.supervisor.process_supervisor import describe_exit
from cli.supervisor.progress import print_progress
from flowhook.asyncio_tasks import run_in_daemon
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError, InvalidError, InvalidFlowError, UnavailableError
from flowhook.model import Execution, Status
from flowhook.model.rejections import ReceivedRequest, RequestOutcome
from flowhook.retrying import PROCESS

# files are also looked at without a notice: no file system has any that is mounted from elsewhere
LOOK_MS: Final = 2000
READ_SECONDS: Final = 1.0  # for which a look waits for functions of catalogs
# a directory has other YAML and JSON files as well: only those with this key are flows
_DOCUMENT: Final = re.compile(rb"""^[\s{]*["']?document["']?\s*:""", re.MULTILINE)
Problems = tuple[str, ...]


@dataclass(slots=True)
class WatchedFlows:
    """The flows of a directory, or of one file."""

    path: Path
    data_dir: Path
    webhooks: list[str] = field(init=False, default_factory=list)  # IDs of the flows that have a webhook
    url: str = field(init=False, default="")  # of the edges, as senders see it, once they serve
    # by path: the content that was seen last, with the files that it names, and what is wrong with it
    _contents: Mapping[Path, bytes] | None = field(init=False, default=None)
    _problems: Mapping[Path, Problems] = field(init=False, default_factory=dict)
    _flows: dict[Path, str] = field(init=False, default_factory=dict)  # IDs, as last applied
    _readings: dict[tuple[Path, bytes], Future[bytes]] = field(init=False, default_factory=dict)  # that go on
    _others: frozenset[Path] = field(init=False, default=frozenset())  # files that are no flows

    async def watch(self, client: AsyncClient) -> None:
        """Apply what changes, until cancelled."""
        from watchfiles import awatch

        directory = self.path if self.path.is_dir() else self.path.parent
        async for _ in awatch(directory, recursive=False, rust_timeout=LOOK_MS, yield_on_timeout=True):
            await self.apply(client)

    async def apply(self, client: AsyncClient) -> None:
        """Apply the files that are new or have changed, and print what is wrong with those that can't be applied."""
        contents, unreadable = await asyncio.to_thread(self._read)
        if contents == self._contents and unreadable.items() <= self._problems.items():
            return
        problems = {**await asyncio.to_thread(_check, contents), **unreadable}
        earlier, self._contents = self._contents or {}, contents
        known, self._problems = self._problems, problems
        for path, content in contents.items():
            if earlier.get(path) == content and known.get(path) == problems.get(path):
                continue
            if path in problems:
                self._report(path, problems[path])
            else:
                await self._apply_one(client, path, content)
        for path in [path for path in self._flows if path not in contents]:
            self._report_deleted(path)
        if not contents:
            print_progress(f"no flows in {self.path}: `flowhook new NAME --provider stripe` writes one")

    async def _apply_one(self, client: AsyncClient, path: Path, content: bytes) -> None:
        for pause in PROCESS.pauses():
            try:
                earlier = set(self.webhooks)
                self.webhooks[:] = await apply_files(client, self.data_dir, {path: content})
                for flow in self.webhooks if self.url else ():
                    if flow not in earlier:
                        print_progress(f"webhook  {self.url}/hook/{flow}")
                self._flows[path] = read_applied_files(self.data_dir)[str(path)].flow
            except UnavailableError:  # while a router that died is started again
                await asyncio.sleep(pause)
                continue
            except InvalidFlowError as error:
                self._report(path, tuple(map(str, error.faults)))
            except FlowhookError as error:
                self._report(path, (f"{shown_path(path)}: {error.message}",))
            return

    def _report(self, path: Path, problems: Problems) -> None:
        print(*problems, sep="\n", file=sys.stderr, flush=True)
        flow = self._flows.get(path)
        print_progress(f"{shown_path(path)} is not applied{f'; flow {flow} stays as it was' if flow else ''}")

    def _report_deleted(self, path: Path) -> None:
        flow = self._flows.pop(path)
        if flow not in self._flows.values():
            print_progress(f"{shown_path(path)} is gone, flow {flow} is not: `flowhook flows delete {flow}` deletes it")

    def _read(self) -> tuple[dict[Path, bytes], dict[Path, Problems]]:
        """Return the contents of the flow files, and why files that they name can't be read. Blocking."""
        contents: dict[Path, bytes] = {}
        unreadable: dict[Path, Problems] = {}
        others = set()
        try:
            files = flow_files.list_directory(self.path) if self.path.is_dir() else [self.path]
        except OSError:  # the directory was deleted
            files = []
        for path in files:
            try:
                content = flow_files.read_content(path)
            except OSError:  # an editor is replacing it
                continue
            if not _DOCUMENT.search(content):
                others.add(path)
                continue
            contents[path] = content
        # in threads, for a catalog that does not answer keeps nothing else waiting
        earlier, self._readings = self._readings, {}
        for item in contents.items():
            self._readings[item] = earlier.get(item) or run_in_daemon(flow_files.read_flow_file, item[0])
        wait([reading for (_, content), reading in self._readings.items() if not embedding.may_fetch(content)])
        wait(self._readings.values(), timeout=READ_SECONDS)
        for (path, content), reading in [*self._readings.items()]:
            if not reading.done():
                known = self._problems.get(path) if (self._contents or {}).get(path) == content else None
                unreadable[path] = known or (f"{shown_path(path)}: its catalogs have not answered yet",)
                continue
            del self._readings[path, content]
            try:
                contents[path] = reading.result()
            except FlowhookError as error:
                unreadable[path] = (error.message,)
        if new := others - self._others:
            names = ", ".join(shown_path(path) for path in sorted(new))
            print_progress(f"left alone, without the key `document` of a flow: {names}")
        self._others = frozenset(others)
        return contents, unreadable


def _check(contents: Mapping[Path, bytes]) -> dict[Path, Problems]:
    """Return what is wrong with files. Blocking."""
    paths = {shown_path(path): path for path in contents}
    _, faults = flow_files.check_contents({name: contents[path] for name, path in paths.items()})
    problems: dict[Path, Problems] = {}
    for fault in faults:
        path = paths[fault.file]
        problems[path] = (*problems.get(path, ()), str(fault))
    return problems


LOOK_SECONDS: Final = 0.5  # between two looks at the requests, which edges report as often
PAGE: Final = 100  # newest requests at a look; of more than these in that time, some are not printed
_SHOWN: Final = frozenset({Status.COMPLETED, Status.FAULTED, Status.CANCELLED, Status.SUSPENDED, Status.WAITING})


async def print_arrivals(client: AsyncClient, on_watching: Callable[[], None]) -> None:
    """Print what arrives from now on, until cancelled; `on_watching` is called once no execution can be missed."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_print_executions(client, on_watching))
        group.create_task(_print_requests(client))


async def _print_executions(client: AsyncClient, on_watching: Callable[[], None]) -> None:
    pauses = PROCESS.pauses()
    while True:
        try:
            async for change in client.executions.watch():
                pauses = PROCESS.pauses()
                if change is None:
                    on_watching()
                    continue
                if change.missed:
                    print_progress(f"{change.missed} changes of executions are not shown: they came too fast")
                if change.execution.status in _SHOWN:
                    print_progress(execution_line(change.execution))
        except UnavailableError:  # the supervisor says that the router is gone
            pass
        await asyncio.sleep(next(pauses))


async def _print_requests(client: AsyncClient) -> None:
    printed: set[str] | None = None  # IDs in the log of rejections, of the newest page
    while True:
        try:
            page = await client.rejections.requests_page(page_size=PAGE)
        except UnavailableError:
            pass
        else:
            found = {each.rejection_id: each for each in reversed(page.items) if each.rejection_id}
            for each in () if printed is None else (each for id_, each in found.items() if id_ not in printed):
                print_progress(request_line(each))
            printed = set(found)
        await asyncio.sleep(LOOK_SECONDS)


def execution_line(execution: Execution) -> str:
    """Return time, flow, status, ID, duration, and the error or what is waited for.

    The time is when it ended; of one that waits, now: it has just begun to.
    """
    told = shown(execution)
    took = duration(seconds_between(told["received_at"], told["ended_at"]))
    return _arrival_line(
        execution.ended_at or datetime.now().astimezone(),
        told["flow"],
        told["status"],
        [told["id"], took, failure(told)],
    )


def request_line(request: ReceivedRequest) -> str:
    """Return time, flow, outcome, status, and what is known of the cause."""
    flow = f"{request.flow_id}/{request.callback}" if request.callback else request.flow_id
    told = [str(request.status or ""), request.execution_id]
    if request.outcome is not RequestOutcome.DUPLICATE:
        told += [": ".join(dict.fromkeys(filter(None, (request.reason, request.detail))))]
    return _arrival_line(request.received_at, flow, request.outcome, told)


def _arrival_line(time: datetime, flow: str, outcome: str, rest: Iterable[str]) -> str:
    at = time.astimezone().strftime("%H:%M:%S")
    return printable("  ".join([at, flow, f"{outcome:<9}", *filter(None, rest)])).replace("\n", " ")


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
