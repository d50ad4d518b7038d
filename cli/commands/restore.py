"""`flowhook restore`: restores a backup, while no router runs."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from cli.log_client import KeyDir, NatsCaFile, NatsCredsFile, describe_key, opened_storage, router_settings
from cli.options import Json

if TYPE_CHECKING:
    from router.storage.backups.restoring import UntilPoint

# for how long the heartbeats of running routers are listened to; each sends two a second
HEARTBEAT_SECONDS: Final = 2.0


def command(
    *,
    file: Annotated[str, Argument(metavar="FILE|s3://BUCKET/PREFIX/FILE", help="Backup that `flowhook backup` made.")],
    storage: Annotated[
        str, Option(metavar="STORAGE", help="sqlite:PATH, or nats://HOST:PORT,… of an empty log (FLOWHOOK_STORAGE).")
    ] = "",
    force: Annotated[
        bool, Option("--force", help="Move a database that is there aside, to before-restore-TIME beside it.")
    ] = False,
    at: Annotated[
        str,
        Option(
            metavar="POSITION|TIME",
            help="Apply the records after the backup, of the log FLOWHOOK_STORAGE, up to a position, a time or 2h ago.",
        ),
    ] = "",
    json: Json = False,
    data_dir: KeyDir = None,
    nats_creds_file: NatsCredsFile = None,
    nats_ca_file: NatsCaFile = None,
) -> None:
    """Restore a backup into an empty data directory, or an empty log, while no router runs."""
    from cli.output import print_json
    from flowhook.process import logs
    from flowhook.security.tokens import FILE as TOKENS
    from router.process import backups
    from router.storage.backups.restoring import Restoring
    from router.storage.backups.targets import is_s3

    until = _until(at)
    if at and not storage:
        raise typer.BadParameter("--at needs --storage sqlite:PATH: FLOWHOOK_STORAGE is the log that is read")
    logs.configure(level="warning")
    settings = router_settings(data_dir, nats_creds_file=nats_creds_file, nats_ca_file=nats_ca_file)
    start = time.monotonic()
    progress = sys.stderr if json else sys.stdout
    with ExitStack() as opened:
        url = opened.enter_context(opened_storage(settings, storage, stopped=True))
        database = settings.database(url)
        connect = partial(backups.connected, settings)
        path = Path(file)
        if is_s3(file):
            prefix, _, name = file.rpartition("/")
            path = opened.enter_context(backups.s3_target(settings, prefix).fetched(name))
        since = opened.enter_context(opened_storage(settings)) if at else ""
        restoring = Restoring(
            archive=path,
            key=backups.key_of(settings),
            tokens=settings.data_dir / TOKENS,
            report=lambda line: print(line, file=progress, flush=True),
            since=opened.enter_context(connect(since, "restore")) if since else None,
            until=until,
        )
        if database is None:
            replicated = opened.enter_context(connect(url, "restore", create=True))
            restored = restoring.to_log(replicated, settings.data_dir, heartbeat_seconds=HEARTBEAT_SECONDS)
        else:
            restored = restoring.to_database(database, force=force)
    manifest, seconds = restored.manifest, time.monotonic() - start
    if json:
        aside = str(restored.aside) if restored.aside else ""
        found = {"position": restored.position, "executions": restored.executions, "missing_blobs": restored.missing}
        print_json({**found, "aside": aside, "secrets_key": manifest.secrets_key, "seconds": round(seconds, 3)})
        return
    for status, number in restored.executions.items():
        print(f"{status}: {number}")
    print(
        f"{sum(restored.executions.values())} executions restored, up to position {restored.position}, {seconds:.1f} s"
    )
    if restored.missing:
        print(f"{restored.missing} large payloads or bodies are missing")
    if restored.aside:
        print(f"what was there before is in {restored.aside}")
    if (settings.data_dir / TOKENS).exists() and not (settings.data_dir / "admin.token").exists():
        print("the tokens are those of the backup: put back the files *.token, or use 'flowhook tokens rotate NAME'")
    if manifest.secrets and not restoring.key:
        key = describe_key(manifest.secrets_key)
        print(f"put secrets.key, {key}, into {settings.data_dir} before you start")


def _until(at: str) -> UntilPoint:
    from router.storage.backups.restoring import UntilPoint

    if not at:
        return UntilPoint()
    if at.isdecimal():
        return UntilPoint(position=int(at))
    from operations.execution_list import parse_time

    return UntilPoint(time_ms=int(parse_time(at, datetime.now(UTC)).timestamp() * 1000))
