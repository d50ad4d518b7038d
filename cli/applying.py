"""Applies the flows of `flowhook up`, in a separate process: `python -m cli.applying [FILE_OR_DIR]`.

The supervisor starts the process, which ends when it is done. The files were checked before; the router checks them
again. On the socket to the supervisor it reports the flows that have a webhook.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from cli import failures, flow_paths
from cli.progress import print_progress
from cli.supervisor.initial_flows import ROUTER_AWAY
from flowhook.client import AppliedFlow, AsyncClient
from flowhook.config import CommonSettings, read_token
from flowhook.errors import InvalidError, InvalidFlowError, UnavailableError
from flowhook.supervisor_socket import receive_settings, take_socket


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
        files = flow_paths.find_flow_files(paths)
        if files:
            try:
                applied = await client.flows.apply([_content(file) for file in files])
            except InvalidFlowError as error:
                raise flow_paths.with_file_names(error, [str(file) for file in files]) from None
            for file, each in zip(files, applied, strict=True):
                _print_applied(file, each)
        async for flow in client.flows.list():
            if flow.has_webhook:
                parent.sendall(orjson.dumps({"webhook": flow.id}) + b"\n")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidError(flow_paths.unreadable_message(path, error), reason="FLOW_FILE_MISSING") from None


def _print_applied(file: Path, applied: AppliedFlow) -> None:
    print_progress(f"flow {applied.flow.id}: {applied.change}")
    if not applied.warnings:
        return
    from cli import flow_problems
    from flowhook.document import parse

    content = _content(file)
    for warning in flow_problems.locate_warnings(parse(content), content, str(file), applied.warnings):
        print(flow_problems.format_warning(warning), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
