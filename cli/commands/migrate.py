"""`flowhook migrate`: moves all data between the embedded storage and a replicated log."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer
from typer import Option

from cli.log_client import KeyDir, NatsCaFile, NatsCredsFile, cluster_keys, log_url
from cli.options import Json

LOG_SCHEMES: Final = ("nats://", "tls://")
SQLITE_SCHEME: Final = "sqlite:"
# for how long the heartbeats of running routers are listened to; each sends two a second
HEARTBEAT_SECONDS: Final = 2.0


def command(
    *,
    source: Annotated[
        str, Option("--from", metavar="STORAGE", help="sqlite:PATH, or nats://HOST:PORT,… (FLOWHOOK_STORAGE).")
    ] = "",
    target: Annotated[
        str, Option("--to", metavar="STORAGE", help="nats://HOST:PORT,…, or sqlite:PATH (FLOWHOOK_STORAGE).")
    ] = "",
    json: Json = False,
    data_dir: KeyDir = None,
    nats_creds_file: NatsCredsFile = None,
    nats_ca_file: NatsCaFile = None,
) -> None:
    """Move all data between a database and a replicated log, while no router runs. The source stays as it is."""
    from cli.output import print_json
    from flowhook.process import logs
    from router.storage.commit_log import jetstream
    from router.storage.replicated.migration import Migration

    if not (source or target):
        raise typer.BadParameter("give --from or --to; the one that is left out is FLOWHOOK_STORAGE")
    source, target = log_url("--from", source), log_url("--to", target)
    to_log = source.startswith(SQLITE_SCHEME) and target.startswith(LOG_SCHEMES)
    if not to_log and not (source.startswith(LOG_SCHEMES) and target.startswith(SQLITE_SCHEME)):
        raise typer.BadParameter("one of --from and --to is sqlite:PATH, the other one nats://HOST:PORT or tls://…")
    url, database = (target, source) if to_log else (source, target)
    path = Path(database.removeprefix(SQLITE_SCHEME))
    logs.configure(level="warning")
    start = time.monotonic()
    replicated = jetstream.connect(
        url,
        cluster_keys(data_dir),
        router=f"migrate-{os.getpid()}",
        create=to_log,
        creds_file=nats_creds_file,
        ca_file=nats_ca_file,
    )
    with closing(replicated):
        progress = sys.stderr if json else sys.stdout
        migration = Migration(
            replicated, report=lambda line: print(line, file=progress, flush=True), heartbeat_seconds=HEARTBEAT_SECONDS
        )
        result = migration.to_log(path) if to_log else migration.from_log(path)
    seconds = time.monotonic() - start
    if json:
        found = {"position": result.position, "executions": result.check.executions, "compared": result.check.compared}
        blobs = {"blobs": result.blobs, "missing_blobs": result.missing}
        print_json({**found, **blobs, "seconds": round(seconds, 3)})
        return
    for status, number in sorted(result.check.executions.items()):
        print(f"{status}: {number}")
    total = sum(result.check.executions.values())
    print(f"{total} executions migrated in {seconds:.1f} s; {result.check.compared} of them compared byte for byte")
    if result.missing:
        print(f"{result.missing} large payloads or bodies were missing in the source already")
