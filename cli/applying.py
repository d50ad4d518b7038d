"""Applies the flows of `flowhook up`, in a separate process: `python -m cli.applying [FILE_OR_DIR]`.

The supervisor starts the process, which ends when it is done. The files were checked before; the router checks them
again. On the socket to the supervisor it reports the flows that have a webhook.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson

from cli import failures, flow_paths
from cli.applied_files import AppliedFile, read_applied_files, write_applied_files
from cli.supervisor.initial_flows import ROUTER_AWAY
from cli.supervisor.progress import print_progress
from flowhook.client import AppliedFlow, AsyncClient
from flowhook.errors import InvalidError, InvalidFlowError, UnavailableError
from flowhook.process.settings import CommonSettings, read_token
from flowhook.process.supervisor_socket import receive_settings, take_socket


def main(arguments: Sequence[str]) -> int:
    """Apply the flows of files and directories, and return the exit code."""
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
        existing = [flow async for flow in client.flows.list()]
        webhooks = {flow.id for flow in existing if flow.has_webhook}
        files = {path.absolute(): _content(path) for path in flow_paths.find_flow_files(paths)}
        known = read_applied_files(settings.data_dir)
        revisions = {flow.id: flow.revision for flow in existing}
        for path in list(files):
            applied = known.get(str(path))
            if applied is not None and applied.is_superseded(files[path], revisions):
                del files[path]
                print_progress(
                    f"flow {applied.flow}: changed since its file was applied, and kept as it is;"
                    f" `flowhook apply -f {_shown(path)}` takes the file again"
                )
        if files:
            results = await _applied(client, files)
            webhooks.difference_update(each.flow.id for each in results)
            webhooks.update(each.flow.id for each in results if each.flow.has_webhook)
            _print_results(files, results)
            for (path, content), each in zip(files.items(), results, strict=True):
                known[str(path)] = AppliedFile.of(content, each.flow.id, each.flow.revision)
            write_applied_files(settings.data_dir, known)
        for flow_id in sorted(webhooks):
            parent.sendall(orjson.dumps({"webhook": flow_id}) + b"\n")


async def _applied(client: AsyncClient, files: Mapping[Path, bytes]) -> Sequence[AppliedFlow]:
    try:
        return await client.flows.apply(list(files.values()))
    except InvalidFlowError as error:
        raise flow_paths.with_file_names(error, [_shown(path) for path in files]) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidError(flow_paths.unreadable_message(path, error), reason="FLOW_FILE_MISSING") from None


def _print_results(files: Iterable[Path], results: Sequence[AppliedFlow]) -> None:
    unset: dict[str, list[str]] = {}
    for path, applied in zip(files, results, strict=True):
        print_progress(f"flow {applied.flow.id}: {applied.change}")
        for located in applied.located_warnings:
            from cli import flow_problems

            warning = replace(located, file=_shown(path))
            if name := flow_problems.unset_secret(warning):
                unset.setdefault(name, []).append(applied.flow.id)
            else:
                print(flow_problems.format_warning(warning), file=sys.stderr, flush=True)
    if unset:
        names = ", ".join(f"{name} ({', '.join(flows)})" for name, flows in sorted(unset.items()))
        print_progress(f"secrets that are not set yet: {names}; `flowhook secrets set NAME` sets one")


def _shown(path: Path) -> str:
    """Return a path as people would write it: relative to the working directory, if it is below it."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
