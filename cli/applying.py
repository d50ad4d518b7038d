"""Applies the flows of `flowhook up`, in a separate process: `python -m cli.applying [FILE_OR_DIR]`.

The supervisor starts the process, which ends when it is done. The files were checked before; the router checks them
again. On the socket to the supervisor it reports the flows that have a webhook.

A restart of `up` does not revert later changes of flows: `<data-dir>/applied-flows.json` has, for each file, the hash
of its content and the flow and the revision that it became. A file that is as it was then, of a flow that has a later
revision now, is left alone: somebody has edited the flow in the console, or applied another file. A file that has
changed is applied in any case.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import orjson

from cli import failures, flow_files
from cli.supervisor.initial_flows import ROUTER_AWAY
from cli.supervisor.progress import print_progress
from flowhook.client import AppliedFlow, AsyncClient
from flowhook.errors import Fault, InvalidFlowError, UnavailableError
from flowhook.process.settings import CommonSettings, read_token
from flowhook.process.supervisor_socket import receive_settings, take_socket
from flowhook.security.private_files import write_private

NAME: Final = "applied-flows.json"


def main(arguments: Sequence[str]) -> int:
    if not receive_settings():
        return failures.EXIT_REFUSED
    parent = take_socket()
    assert parent is not None  # noqa: S101 - for the type checker; the settings came from it
    with parent:
        try:
            asyncio.run(_apply([Path(argument) for argument in arguments], parent))
        except UnavailableError:
            return ROUTER_AWAY
        except Exception as error:  # noqa: BLE001 - reported before the process exits
            return failures.report(error)
    return 0


async def _apply(paths: Sequence[Path], parent: socket.socket) -> None:
    settings = CommonSettings()
    async with AsyncClient(settings.router, token=read_token(settings, "admin")) as client:
        for flow_id in await apply_files(client, settings.data_dir, _read(paths, settings.data_dir)):
            parent.sendall(orjson.dumps({"webhook": flow_id}) + b"\n")


def _read(paths: Sequence[Path], data_dir: Path) -> dict[Path, bytes]:
    """Return the contents of flow files, without those that were applied before and whose catalog is away now."""
    known = read_applied_files(data_dir)
    files = {}
    for path in flow_files.find_flow_files(paths):
        unreached: dict[str, Fault] = {}
        content = flow_files.read_flow_file(path, unreached)
        if not unreached:
            files[path] = content
        elif applied := known.get(str(path.absolute())):
            print_progress(f"flow {applied.flow}: kept as it is, as {next(iter(unreached.values())).cause}")
        else:
            raise InvalidFlowError([*unreached.values()])
    return files


async def apply_files(client: AsyncClient, data_dir: Path, files: Mapping[Path, bytes]) -> list[str]:
    """Apply flow files, but for those whose flows were changed since, and return the flows that have a webhook.

    Raises as `client.flows.apply` does: then none of the `flow_files.parts` with faults is applied.
    """
    existing = [flow async for flow in client.flows.list()]
    webhooks = {flow.id for flow in existing if flow.has_webhook}
    known = read_applied_files(data_dir)
    revisions = {flow.id: flow.revision for flow in existing}
    wanted = {}
    for path, content in files.items():
        applied = known.get(str(path.absolute()))
        if applied is None or not applied.is_superseded(content, revisions):
            wanted[path] = content
            continue
        print_progress(
            f"flow {applied.flow}: changed since its file was applied, and kept as it is;"
            f" `flowhook apply -f {shown_path(path)}` takes the file again"
        )
    items = list(wanted.items())
    faults: list[Fault] = []
    for part in flow_files.parts(list(wanted.values())):
        chosen = dict(items[part])
        try:
            with flow_files.named_files(list(map(shown_path, chosen))):
                results = await client.flows.apply(list(chosen.values()))
        except InvalidFlowError as error:
            faults += error.faults
            continue
        webhooks.difference_update(each.flow.id for each in results)
        webhooks.update(each.flow.id for each in results if each.flow.has_webhook)
        _print_results(chosen, results)
        for (path, content), each in zip(chosen.items(), results, strict=True):
            known[str(path.absolute())] = AppliedFile.of(content, each.flow.id, each.flow.revision)
        write_applied_files(data_dir, known)
    if faults:
        raise InvalidFlowError(faults)
    return sorted(webhooks)


def _print_results(files: Iterable[Path], results: Sequence[AppliedFlow]) -> None:
    unset: dict[str, list[str]] = {}
    for path, applied in zip(files, results, strict=True):
        print_progress(f"flow {applied.flow.id}: {applied.change}")
        for warning in applied.located_warnings:
            if name := flow_files.unset_secret(warning):
                unset.setdefault(name, []).append(applied.flow.id)
            else:
                text = flow_files.format_warning(replace(warning, file=shown_path(path)))
                print(text, file=sys.stderr, flush=True)
    if unset:
        names = ", ".join(f"{name} ({', '.join(flows)})" for name, flows in sorted(unset.items()))
        print_progress(f"secrets that are not set yet: {names}; `flowhook secrets set NAME` sets one")


def shown_path(path: Path) -> str:
    """Return a path as people would write it: relative to the working directory, if it is below it."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


@dataclass(frozen=True, slots=True)
class AppliedFile:
    """A file as it was applied."""

    sha256: str
    flow: str
    revision: int

    @classmethod
    def of(cls, content: bytes, flow_id: str, revision: int) -> AppliedFile:
        return cls(_digest(content), flow_id, revision)

    def is_superseded(self, content: bytes, revisions: Mapping[str, int]) -> bool:
        """Whether the flow was changed after the file was applied, and the file, whose content it is now, was not.

        `revisions`: the latest one of each flow that exists; a flow that was deleted is applied again.
        """
        return self.sha256 == _digest(content) and revisions.get(self.flow, 0) > self.revision


def read_applied_files(data_dir: Path) -> dict[str, AppliedFile]:
    """Return the files by their paths; none, if it is not known. Blocking."""
    try:
        return {path: AppliedFile(**each) for path, each in orjson.loads((data_dir / NAME).read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_applied_files(data_dir: Path, files: Mapping[str, AppliedFile]) -> None:
    """Remember the files. Blocking. Raises `OSError`: the file can't be written."""
    write_private(data_dir / NAME, orjson.dumps({path: asdict(each) for path, each in files.items()}) + b"\n")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
