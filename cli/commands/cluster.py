"""`flowhook cluster`: shows the state, moves the shard, and makes a lost log anew."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer import Option

from cli.commands.backup import (
    HEARTBEAT_SECONDS,
    KeyDir,
    NatsCaFile,
    NatsCredsFile,
    cluster_keys,
    log_url,
)
from cli.execution_tables import Shown
from cli.operation_commands import OperationCall, command, keyword, showing, shown
from cli.output import print_json, print_result, print_table
from operations import table

if TYPE_CHECKING:
    from flowhook.client import Client

app = typer.Typer(help="Look at the routers and the replicated log, and repair it.", no_args_is_help=True)
# how long `hand-over` waits for the next owner: it loads all unfinished executions first
HAND_OVER_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.2  # between two looks meanwhile
TIMEOUT: Final = Annotated[
    float, Option(metavar="SECONDS", min=0.0, help="How long to wait until the next owner serves.")
]
SHARD_COLUMNS: Final = ("SHARD", "OWNER", "STATE", "EPOCH", "POSITION", "LOG BYTES", "SNAPSHOTS")
COPY_COLUMNS: Final = ("SHARD", "ROUTER", "STATE", "POSITION", "LAG", "SILENT", "ADDRESS", "VERSION")
SERVER_COLUMNS: Final = ("SERVER", "ROLE", "UP TO DATE", "LAG", "VERSION")


@command(app, "status", table.LIST_SHARDS)
def _status(call: OperationCall) -> None:
    """Show the owner and the standbys of each shard, and the servers of the replicated log."""
    state = call.perform()
    if call.json:
        for each in (*state.shards, *state.servers):
            print_json(each)
        return
    shards, servers = (shown(each) for each in (state.shards, state.servers))
    print_table(SHARD_COLUMNS, map(_shard_row, shards), empty="no shards")
    print()
    copies = [(shard, copy) for shard in shards for copy in shard["copies"]]
    print_table(COPY_COLUMNS, starmap(_copy_row, copies), empty="no routers")
    print()
    print_table(SERVER_COLUMNS, map(_server_row, servers), empty="no servers: the storage is embedded")
    problems = [copy["problem"] for _, copy in copies if copy["problem"]]
    problems += [f"{server['name']}: {server['problem']}" for server in servers if server["problem"]]
    for problem in problems:
        print(f"\n{problem}")


@command(
    app,
    "hand-over",
    table.HAND_OVER,
    arguments={"successor": "ROUTER"},
    more=[keyword("timeout", TIMEOUT, HAND_OVER_SECONDS)],
)
def _hand_over(call: OperationCall) -> None:
    """Have the owner hand the shard over to a standby, and wait until that one serves."""
    begun = call.perform()
    owner = _next_owner(call.operator.client, begun.epoch, call.options["timeout"])
    if owner != begun.successor:
        print(f"flowhook: {begun.successor} was to own it, and was too late", file=sys.stderr)
    text = f"{owner} owns the shard and serves, in place of {begun.owner}"
    print_result({**shown(begun), "successor": owner}, text, json=call.json)


command(
    app,
    "dismiss",
    table.DISMISS_PROCESS,
    "Forget a process that has ended and will not come back, before the hour is over for which it is shown.",
    arguments={"name": "PROCESS"},
)(showing(lambda process: f"{process['name']} dismissed"))


def _next_owner(client: Client, epoch: int, timeout: float) -> str:
    """Wait for an owner with a higher epoch that serves, and return its name."""
    from flowhook.errors import UnavailableError

    deadline = time.monotonic() + timeout
    while True:
        try:
            shard = client.cluster.shards().shards[0]
            if shard.epoch > epoch and shard.serving:
                return shard.owner
            seen = f"{shard.owner or 'no router'} owns the shard, and {'serves' if shard.serving else 'does not serve'}"
        except UnavailableError as error:  # a router changes its server
            seen = error.message
        if time.monotonic() >= deadline:
            raise UnavailableError(
                f"no other router serves after {timeout:g} s: {seen}; see 'flowhook cluster status'",
                reason="HAND_OVER_PENDING",
            )
        time.sleep(LOOK_SECONDS)


@app.command("rebuild-log")
def _rebuild_log(
    *,
    storage: Annotated[str, Option(metavar="URL", help="URL of the log, nats://… (FLOWHOOK_STORAGE).")] = "",
    view_dir: Annotated[
        Path, Option(metavar="DIR", envvar="FLOWHOOK_VIEW_DIR", help="View of a router that is stopped.")
    ],
    discard_log: Annotated[
        bool, Option("--discard-log", help="Delete the records of a log that was created in its place.")
    ] = False,
    data_dir: KeyDir = None,
    nats_creds_file: NatsCredsFile = None,
    nats_ca_file: NatsCaFile = None,
) -> None:
    """Make a lost log anew of a router's view, while no router runs: after LOG_REPLACED, and only then."""
    from flowhook.process import logs
    from router.storage.commit_log import jetstream
    from router.storage.replicated.rewriting import LogRebuilding
    from router.storage.replicated.view import View

    storage = log_url("--storage", storage)
    logs.configure(level="warning")
    files: dict[str, Any] = {"creds_file": nats_creds_file, "ca_file": nats_ca_file}
    name = f"rebuild-log-{os.getpid()}"
    with closing(jetstream.connect(storage, cluster_keys(data_dir), router=name, **files)) as replicated:
        renew = partial(jetstream.rebuild_log, storage, **files)
        rebuilding = LogRebuilding(replicated, renew, heartbeat_seconds=HEARTBEAT_SECONDS)
        result = rebuilding.rebuild(View(view_dir), discard=discard_log)
    print(f"the log is made anew, of the view at position {result.position}")
    if result.uploaded:
        print(f"{result.uploaded} large payloads and bodies were uploaded again")
    if result.missing:
        print(f"{result.missing} large payloads or bodies are missing")
    print("remove the views of the other routers before you start them")


def _shard_row(shard: Shown) -> tuple[object, ...]:
    state = "serving" if shard["serving"] else "not serving"
    snapshots = ", ".join(str(each["position"]) for each in shard["snapshots"])
    return shard["number"], shard["owner"], state, shard["epoch"], shard["position"], shard["log_bytes"], snapshots


def _copy_row(shard: Shown, copy: Shown) -> tuple[object, ...]:
    lag = max(0, shard["position"] - copy["position"])  # a copy may be newer than the shard's state
    silence = f"{copy['silence']:.1f} s"
    where = (copy[name] for name in ("router", "state", "position"))
    return shard["number"], *where, lag, silence, copy["address"], copy["version"]


def _server_row(server: Shown) -> tuple[object, ...]:
    current = "yes" if server["current"] else "no"
    return server["name"], "leader" if server["leader"] else "follower", current, server["lag"], server["version"]
