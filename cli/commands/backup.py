"""`flowhook backup`: makes a backup of the storage, while a router runs."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from cli.log_client import KeyDir, NatsCaFile, NatsCredsFile, cluster_keys, key_of, router_settings, storage_of
from cli.options import Json


def command(
    *,
    target: Annotated[
        str,
        Argument(metavar="FILE|DIR", help="File to write, .tar.zst or .tar; in a directory, one named after the time."),
    ],
    storage: Annotated[
        str, Option(metavar="STORAGE", help="sqlite:PATH, or nats://HOST:PORT,… (FLOWHOOK_STORAGE).")
    ] = "",
    json: Json = False,
    data_dir: KeyDir = None,
    nats_creds_file: NatsCredsFile = None,
    nats_ca_file: NatsCaFile = None,
) -> None:
    """Back up the whole storage at one position, while routers run. It needs the router's files, and no token."""
    from cli.output import print_json
    from flowhook.process import logs
    from flowhook.security.tokens import FILE as TOKENS
    from router.storage.backups.making import BackupMaker
    from router.storage.backups.targets import file_name

    logs.configure(level="warning")
    os.nice(19)  # what serves goes first
    settings = router_settings(data_dir)
    url, database = storage_of(settings, storage)
    path = Path(target)
    if path.is_dir() or target.endswith("/"):
        path /= file_name(time.time())
    start = time.monotonic()
    progress = sys.stderr if json else sys.stdout
    maker = BackupMaker(tokens=settings.data_dir / TOKENS, report=lambda line: print(line, file=progress, flush=True))
    if database is None:
        from router.storage.commit_log import jetstream

        files: dict[str, Any] = {"creds_file": nats_creds_file, "ca_file": nats_ca_file}
        keys, name = cluster_keys(data_dir), f"backup-{os.getpid()}"
        with closing(jetstream.connect(url, keys, router=name, create=False, **files)) as replicated:
            made = maker.of_log(replicated, path, key=key_of(settings))
    else:
        made = maker.of_database(database, path)
    manifest, seconds = made.manifest, time.monotonic() - start
    if json:
        found = {"file": str(made.path), "bytes": made.size, "position": manifest.position, "log": manifest.log}
        blobs = {"blobs": manifest.blobs, "missing_blobs": manifest.missing, "secrets_key": manifest.secrets_key}
        print_json({**found, "executions": manifest.executions, **blobs, "seconds": round(seconds, 3)})
        return
    total = sum(manifest.executions.values())
    print(
        f"{made.path}: {total} executions, {made.size >> 20} MiB, up to position {manifest.position}, {seconds:.1f} s"
    )
    if manifest.missing:
        print(f"{manifest.missing} large payloads or bodies are missing")
    if manifest.secrets:
        print(
            f"its {manifest.secrets} secrets need the key with the fingerprint {manifest.secrets_key}: keep secrets.key"
        )
