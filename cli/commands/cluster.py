"""`flowhook cluster`: shows the state, moves the shard, makes a lost log anew, and seals an early one."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.log_client import (
    KeyDir,
    NatsCaFile,
    NatsCredsFile,
    cluster_keys,
    local_servers,
    log_url,
    open_log,
    router_settings,
)
from cli.options import DataDir, Json, Router

if TYPE_CHECKING:
    from flowhook.client import Client, LogServerInfo, ShardInfo
    from router.storage.replicated.log_sealing import LogSealed

app = typer.Typer(help="Look at the routers and the replicated log, and repair it.", no_args_is_help=True)

HEARTBEAT_SECONDS: Final = 2.0
"""For how long running routers are looked for; each sends two heartbeats a second."""

HAND_OVER_SECONDS: Final = 30.0
"""How long `hand-over` waits for the next owner: it loads all unfinished executions first."""
LOOK_SECONDS: Final = 0.2
"""Between two looks meanwhile."""

SHARD_COLUMNS: Final = ("SHARD", "OWNER", "STATE", "EPOCH", "POSITION", "LOG BYTES", "SNAPSHOTS")
COPY_COLUMNS: Final = ("SHARD", "ROUTER", "STATE", "POSITION", "LAG", "SILENT", "ADDRESS", "VERSION")
SERVER_COLUMNS: Final = ("SERVER", "ROLE", "UP TO DATE", "LAG", "VERSION")


@app.command("status")
def _status(*, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Show the owner and the standbys of each shard, and the servers of the replicated log."""
    from cli.client_factory import open_client
    from cli.output import print_json, print_table

    with open_client(router, data_dir) as client:
        state = client.cluster.shards()
    if json:
        for line in (*map(_shard_as_json, state.shards), *map(_server_as_json, state.servers)):
            print_json(line)
        return
    print_table(SHARD_COLUMNS, map(_shard_row, state.shards), empty="no shards")
    print()
    print_table(COPY_COLUMNS, (row for shard in state.shards for row in _copy_rows(shard)), empty="no routers")
    print()
    print_table(SERVER_COLUMNS, map(_server_row, state.servers), empty="no servers: the storage is embedded")
    for problem in (problem for shard in state.shards for problem in _problems(shard)):
        print(f"\n{problem}")
    for server in state.servers:
        if server.problem:
            print(f"\n{server.name}: {server.problem}")


@app.command("hand-over")
def _hand_over(
    *,
    successor: Annotated[
        str,
        typer.Argument(
            metavar="[ROUTER]", help="Router that is to own the shard; default: the best reachable standby."
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, help="How long to wait until the next owner serves.")
    ] = HAND_OVER_SECONDS,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Have the owner hand the shard over to a standby, and wait until that one serves."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        begun = client.cluster.hand_over(successor)
        owner = _next_owner(client, begun.epoch, timeout)
        print(f"{owner} owns the shard and serves, in place of {begun.owner}")
        if owner != begun.successor:
            print(f"flowhook: {begun.successor} was to own it, and was too late", file=sys.stderr)


def _next_owner(client: Client, epoch: int, timeout: float) -> str:
    """Wait for an owner with a higher epoch that serves, and return its name.

    Raises:
        UnavailableError: there is none within `timeout` seconds (`HAND_OVER_PENDING`).
    """
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


@app.command("dismiss")
def _dismiss(
    process: Annotated[str, typer.Argument(metavar="PROCESS", help="Name of the process, such as edge-2.")],
    *,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Forget a process that has ended and will not come back, before the hour is over for which it is shown."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        client.cluster.dismiss(process)
    print(f"{process} dismissed")


@app.command("rebuild-log")
def _rebuild_log(
    *,
    storage: Annotated[
        str, typer.Option("--storage", metavar="URL", help="URL of the log, nats://… (FLOWHOOK_STORAGE).")
    ] = "",
    view_dir: Annotated[
        Path,
        typer.Option("--view-dir", metavar="DIR", envvar="FLOWHOOK_VIEW_DIR", help="View of a router that is stopped."),
    ],
    discard_log: Annotated[
        bool, typer.Option("--discard-log", help="Delete the records of a log that was created in its place.")
    ] = False,
    data_dir: KeyDir = None,
    nats_creds_file: NatsCredsFile = None,
    nats_ca_file: NatsCaFile = None,
) -> None:
    """Make a lost log anew of a router's view, while no router runs: after LOG_REPLACED, and only then."""
    from flowhook.process import logs
    from router.storage.commit_log import jetstream
    from router.storage.replicated.rebuilding import LogRebuilding
    from router.storage.replicated.view import View

    storage = log_url("--storage", storage)
    logs.configure(level="warning")
    replicated = open_log(
        storage,
        cluster_keys(data_dir),
        name=f"rebuild-log-{os.getpid()}",
        creds_file=nats_creds_file,
        ca_file=nats_ca_file,
    )
    try:
        renew = partial(jetstream.rebuild_log, storage, creds_file=nats_creds_file, ca_file=nats_ca_file)
        rebuilding = LogRebuilding(replicated, renew, heartbeat_seconds=HEARTBEAT_SECONDS)
        result = rebuilding.rebuild(View(view_dir), discard=discard_log)
    finally:
        replicated.close()
    print(f"the log is made anew, of the view at position {result.position}")
    if result.uploaded:
        print(f"{result.uploaded} large payloads and bodies were uploaded again")
    if result.missing:
        print(f"{result.missing} large payloads or bodies are missing")
    print("remove the views of the other routers before you start them")


def _problems(shard: ShardInfo) -> list[str]:
    """Return what is wrong with the addresses of routers."""
    return [copy.problem for copy in shard.copies if copy.problem]


@app.command("seal")
def _seal(
    *,
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="URL",
            help="URL of the log, nats://…, or nats: for that of `up --storage nats:` (FLOWHOOK_STORAGE).",
        ),
    ] = "",
    data_dir: KeyDir = None,
    nats_creds_file: NatsCredsFile = None,
    nats_ca_file: NatsCaFile = None,
) -> None:
    """Rewrite a log of an earlier version, sealed, in today's format, while no router runs: if routers ask for it."""
    from cli.supervisor.cluster_spec import LOCAL_NATS
    from flowhook.process import logs

    storage = log_url("--storage", storage)
    logs.configure(level="warning")
    directory = router_settings(data_dir).data_dir
    local = storage.partition("?")[0] == LOCAL_NATS
    with local_servers(directory) if local else nullcontext(storage) as url:
        result = _seal_log(url, directory, nats_creds_file, nats_ca_file)
    print(f"the log is sealed: everything up to position {result.position} is in a snapshot")
    if result.objects:
        print(f"{result.objects} large payloads and bodies were sealed")
    if result.missing:
        print(f"{result.missing} large payloads or bodies are missing")
    if result.in_clear:
        print("what was stored before may have been read by anyone who has access to the servers: start the routers")


def _seal_log(url: str, directory: Path, creds_file: Path | None, ca_file: Path | None) -> LogSealed:
    from router.storage.commit_log.sealing import is_sealed
    from router.storage.encryption import key_fingerprint, require_secrets_key
    from router.storage.replicated.log_sealing import LogSealing

    settings, keys = router_settings(directory), cluster_keys(directory)
    key = require_secrets_key(settings.data_dir, settings.secrets_key)
    connecting = partial(
        open_log, url, keys, name=f"seal-{os.getpid()}", create=False, creds_file=creds_file, ca_file=ca_file
    )
    with closing(connecting(sealed=False)) as plain, closing(connecting()) as sealed:
        sealing = LogSealing(
            plain,
            sealed,
            fingerprint=key_fingerprint(key),
            is_sealed=partial(is_sealed, keys=keys),
            heartbeat_seconds=HEARTBEAT_SECONDS,
        )
        return sealing.seal(directory / ".sealing")


def _shard_as_json(shard: ShardInfo) -> dict[str, Any]:
    from cli.output import rfc3339

    standbys = [copy for copy in shard.copies if copy.router != shard.owner]
    return {
        "shard": shard.number,
        "owner": shard.owner or None,
        "address": shard.address or None,
        "serving": shard.serving,
        "epoch": shard.epoch,
        "standbys": [copy.router for copy in standbys],
        "position": shard.position,
        "first_position": shard.first_position,
        "lag": max((_lag(shard, copy.position) for copy in standbys), default=None),
        "log_bytes": shard.log_bytes,
        "max_log_bytes": shard.max_log_bytes or None,
        "copies": [
            {
                "router": copy.router,
                "address": copy.address,
                "state": copy.state,
                "position": copy.position,
                "lag": _lag(shard, copy.position),
                "silent_seconds": round(copy.silence, 3),
                "version": copy.version,
                "problem": copy.problem or None,
                "unreachable_from": dict(copy.unreachable_from),
            }
            for copy in shard.copies
        ],
        "snapshots": [
            {"position": each.position, "bytes": each.size, "created_at": rfc3339(each.create_time_ms)}
            for each in shard.snapshots
        ],
    }


def _server_as_json(server: LogServerInfo) -> dict[str, Any]:
    return {
        "server": server.name,
        "version": server.version,
        "current": server.current,
        "leader": server.leader,
        "lag": server.lag,
        "problem": server.problem or None,
    }


def _shard_row(shard: ShardInfo) -> tuple[object, ...]:
    state = "serving" if shard.serving else "not serving"
    snapshots = ", ".join(str(each.position) for each in shard.snapshots)
    return shard.number, shard.owner, state, shard.epoch, shard.position, shard.log_bytes, snapshots


def _copy_rows(shard: ShardInfo) -> list[tuple[object, ...]]:
    return [
        (
            shard.number,
            copy.router,
            copy.state,
            copy.position,
            _lag(shard, copy.position),
            f"{copy.silence:.1f} s",
            copy.address,
            copy.version,
        )
        for copy in shard.copies
    ]


def _server_row(server: LogServerInfo) -> tuple[object, ...]:
    current = "yes" if server.current else "no"
    return server.name, "leader" if server.leader else "follower", current, server.lag, server.version


def _lag(shard: ShardInfo, position: int) -> int:
    """Return how many records of the log are not applied at a position; copies may be newer than the shard's state."""
    return max(0, shard.position - position)
