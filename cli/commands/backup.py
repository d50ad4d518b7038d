"""`flowhook backup`: makes a backup of the storage, while a router runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from cli.log_client import KeyDir, NatsCaFile, NatsCredsFile, describe_key, opened_storage, router_settings
from cli.options import Json


def command(
    *,
    target: Annotated[
        str,
        Argument(
            metavar="FILE|DIR|s3://BUCKET/PREFIX",
            help="File to write, .tar.zst or .tar; a directory or a bucket has one named after the time.",
        ),
    ],
    prune: Annotated[
        bool, Option("--prune", help="Then remove those there that FLOWHOOK_BACKUP_KEEP_… do not keep.")
    ] = False,
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
    from router.process import backups
    from router.storage.backups.making import BackupMade
    from router.storage.backups.targets import DirectoryTarget, file_name, is_s3

    logs.configure(level="warning")
    backups.lower_priority()
    settings = router_settings(data_dir, nats_creds_file=nats_creds_file, nats_ca_file=nats_ca_file)
    path, start = Path(target), time.monotonic()
    progress = sys.stderr if json else sys.stdout
    made: list[BackupMade] = []

    def make(path: Path) -> None:
        report = lambda line: print(line, file=progress, flush=True)  # noqa: E731
        with opened_storage(settings, storage) as url:
            made.append(backups.make_backup(settings, path, storage=url, report=report))

    if is_s3(target) or path.is_dir() or target.endswith("/"):
        into, name = backups.open_target(settings, target), file_name(time.time())
    else:
        into, name = DirectoryTarget(path.parent), path.name
    where = into.store(name, make)
    removed = backups.remove_surplus(settings, into, name) if prune else []
    seconds, size, manifest = time.monotonic() - start, made[0].size, made[0].manifest
    if json:
        found = {"file": where, "bytes": size, "position": manifest.position, "log": manifest.log}
        blobs = {"blobs": manifest.blobs, "missing_blobs": manifest.missing, "secrets_key": manifest.secrets_key}
        end = {"removed": removed, "seconds": round(seconds, 3)}
        print_json({**found, "executions": manifest.executions, **blobs, **end})
        return
    total = sum(manifest.executions.values())
    print(f"{where}: {total} executions, {size >> 20} MiB, up to position {manifest.position}, {seconds:.1f} s")
    for each in removed:
        print(f"{each} removed")
    if manifest.missing:
        print(f"{manifest.missing} large payloads or bodies are missing")
    if manifest.secrets:
        print(f"its {manifest.secrets} secrets need secrets.key, {describe_key(manifest.secrets_key)}: keep it")
