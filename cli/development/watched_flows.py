"""Applies the flow files of a directory when they change; a flow whose file is invalid or deleted stays as it is."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli import embedding, flow_files
from cli.applying import apply_files, read_applied_files, shown_path
from cli.supervisor.progress import print_progress
from flowhook.asyncio_tasks import run_in_daemon
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError, InvalidFlowError, UnavailableError
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
