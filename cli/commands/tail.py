"""`flowhook tail`: prints executions as their status changes."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated

from typer import Option

from cli.failures import EXIT_INTERRUPTED
from cli.options import DataDir, Json, Router
from flowhook.errors import NotFoundError, UnavailableError
from flowhook.retrying import PROCESS

if TYPE_CHECKING:
    from flowhook.client import ExecutionChange


def command(
    *,
    flow: Annotated[str, Option(metavar="ID", help="Only those of this flow.")] = "",
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Print executions whenever their status changes, until Ctrl-C; those of a flow also if it is applied later."""
    from cli.client_factory import open_client

    signal.signal(signal.SIGINT, _end)
    with open_client(router, data_dir) as client:
        try:
            if flow and not any(client.executions.list(flow_id=flow, limit=1)):  # those of a deleted flow are there
                client.flows.get(flow)
        except NotFoundError as error:
            print(f"flowhook: {error.message} yet; waiting for it", file=sys.stderr, flush=True)
        pauses, established = PROCESS.pauses(), False
        while True:
            try:
                for change in client.executions.watch(flow_id=flow):
                    pauses, established = PROCESS.pauses(), True
                    if change is None:
                        print("watching; Ctrl-C ends", file=sys.stderr, flush=True)
                    else:
                        _show(change, json=json)
            except UnavailableError as error:
                if not established:
                    raise
                print(f"flowhook: {error.message}; trying again", file=sys.stderr, flush=True)
            time.sleep(next(pauses))


def _end(_number: int, _frame: object) -> None:
    """Exit at once: a KeyboardInterrupt raised in a callback of gRPC would be printed and otherwise ignored."""
    os._exit(EXIT_INTERRUPTED)


def _show(change: ExecutionChange, *, json: bool) -> None:
    from cli.execution_tables import failure
    from cli.operation_commands import shown
    from cli.output import print_json, printable

    if change.missed:
        print(f"flowhook: {change.missed} changes missed", file=sys.stderr, flush=True)
    execution = change.execution
    if json:
        print_json(execution)
        return
    told = shown(execution)
    cause = f"  {failed}" if (failed := failure(told)) else ""
    when = told["ended_at"] or told["received_at"]
    print(printable(f"{when}  {told['id']}  {told['flow']}  {told['status']}{cause}"), flush=True)
