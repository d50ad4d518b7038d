"""`flowhook backup`, `restore`, `migrate`: backs the storage up, restores it, and moves all data to another one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from cli.options import Json, read_settings, refuse_credentials
from cli.setting_names import variable_name
from flowhook.errors import ConflictError, InvalidError

if TYPE_CHECKING:
    from flowhook.process.settings import RouterSettings
    from router.storage.backups.restoring import Restored, UntilPoint
    from router.storage.commit_log.seals import ClusterKeys

LOG_SCHEMES: Final = ("nats://", "tls://")
SQLITE_SCHEME: Final = "sqlite:"
HEARTBEAT_SECONDS: Final = 2.0  # for how long running routers are looked for; each sends two heartbeats a second
NatsCredsFile = Annotated[
    Path | None,
    Option(
        metavar="PATH",
        envvar="FLOWHOOK_NATS_CREDS_FILE",
        help="Credentials file for NATS, if the URL names no user and password.",
    ),
]
NatsCaFile = Annotated[
    Path | None,
    Option(
        metavar="PATH",
        envvar="FLOWHOOK_NATS_CA_FILE",
        help="PEM certificates that the TLS certificates of NATS servers are checked against.",
    ),
]
KeyDir = Annotated[
    Path | None,
    Option(
        "--data-dir",
        metavar="DIR",
        help="Directory of secrets.key, if FLOWHOOK_SECRETS_KEY is not set (FLOWHOOK_DATA_DIR).",
    ),
]


def router_settings(data_dir: Path | None, **given: object) -> RouterSettings:
    """Return the settings of a router with this data directory, and others.

    None: with those of the environment, or of the cluster that client commands would talk to.
    """
    from cli.client_factory import find_cluster
    from flowhook.process.settings import RouterSettings

    return find_cluster(read_settings(RouterSettings, {"data_dir": data_dir, **given}))[0]


def cluster_keys(data_dir: Path | None) -> ClusterKeys:
    from router.storage.commit_log.seals import ClusterKeys
    from router.storage.encryption import require_secrets_key

    settings = router_settings(data_dir)
    return ClusterKeys(require_secrets_key(settings.data_dir, settings.secrets_key))


def log_url(option: str, given: str) -> str:
    """Return the URL of a log: the value of an option, else the setting of routers."""
    from flowhook.process.settings import RouterSettings

    refuse_credentials(option, given, variable_name("storage"))
    found = given or read_settings(RouterSettings, {}).storage
    if not found:
        raise typer.BadParameter(f"give {option}, or set FLOWHOOK_STORAGE or FLOWHOOK_STORAGE_FILE")
    return found


@contextmanager
def local_servers(data_dir: Path, parameters: str) -> Iterator[str]:
    """Run the NATS servers of a local cluster that does not run, and give their URL, with further parameters."""
    from cli.supervisor.nats_servers import NatsServers
    from cli.supervisor.rundir import RunDir
    from flowhook.sandbox.spawning import spawn

    with closing(RunDir(data_dir)), closing(NatsServers.prepare(data_dir)) as servers:
        commands = [program.command for program in servers.programs(os.environ)]
        processes = [spawn(each.arguments, environment=each.environment) for each in commands]
        try:
            yield servers.storage(parameters)
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                asyncio.run(process.wait())


@contextmanager
def opened_storage(settings: RouterSettings, given: str = "", *, stopped: bool = False) -> Iterator[str]:
    """Give the URL of the storage: that of an option, of the settings, or of the cluster of the data directory.

    The NATS servers of a local cluster that does not run then run for a while. `stopped`: whether it must not run.

    Raises:
        InvalidError: the directory has a database and a log (`STORAGE_AMBIGUOUS`), or not the log that is named.
        ConflictError: the cluster runs and must not (`DATA_DIR_IN_USE`).
    """
    from cli.supervisor.cluster_spec import LOCAL_NATS
    from cli.supervisor.nats_servers import NatsServers

    refuse_credentials("--storage", given, variable_name("storage"))
    url = given or settings.storage or _storage_of(settings)
    location, _, parameters = url.partition("?")
    with ExitStack() as running:
        if location == LOCAL_NATS:
            servers = None if stopped else NatsServers.running(settings.data_dir)
            try:
                url = running.enter_context(local_servers(settings.data_dir, parameters))
            except ConflictError:
                if servers is None:
                    raise
                url = servers.storage(parameters)
        yield url


def _storage_of(settings: RouterSettings) -> str:
    """Return the storage of the cluster that runs on the data directory, or of the last one; empty: its database."""
    from cli.supervisor.cluster_spec import LOCAL_NATS
    from cli.supervisor.nats_servers import FILE
    from cli.supervisor.rundir import read_cluster

    directory = settings.data_dir
    if cluster := read_cluster(directory):
        return cluster.storage
    if not (directory / FILE).exists():
        return ""
    database = settings.database()
    if database is not None and database.exists():
        raise InvalidError(
            f"{directory} has a database and a replicated log: name the one that is meant, --storage sqlite:{database}"
            f" or --storage {LOCAL_NATS}",
            reason="STORAGE_AMBIGUOUS",
        )
    return LOCAL_NATS


def _shown(settings: RouterSettings, url: str) -> str:
    """Return the URL of a storage for people: without a password."""
    from flowhook.process.confidential_settings import without_credentials

    database = settings.database(url)
    return without_credentials(url) if database is None else f"{SQLITE_SCHEME}{database}"


def describe_key(fingerprint: str) -> str:
    """Return which key of secrets a backup needs; the database may have no fingerprint of it."""
    return f"whose fingerprint is {fingerprint}" if fingerprint else "with which they were set"


def backup(
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
    made: list[BackupMade] = []
    used: list[str] = []
    report = _reporter(json=json)

    def make(path: Path) -> None:
        with opened_storage(settings, storage) as url:
            used.append(_shown(settings, url))
            report(f"backing up {used[0]}")
            made.append(backups.make_backup(settings, path, storage=url, report=report))

    if is_s3(target) or path.is_dir() or target.endswith("/"):
        into, name = backups.open_target(settings, target), file_name(time.time())
    else:
        into, name = DirectoryTarget(path.parent), path.name
    where = into.store(name, make)
    removed = backups.remove_surplus(settings, into, name) if prune else []
    seconds, size, manifest = time.monotonic() - start, made[0].size, made[0].manifest
    if json:
        found = {"file": where, "storage": used[0], "bytes": size, "position": manifest.position, "log": manifest.log}
        blobs = {"blobs": manifest.blobs, "missing_blobs": manifest.missing, "secrets_key": manifest.secrets_key}
        end = {"removed": removed, "seconds": round(seconds, 3)}
        authenticated = {"authenticated": made[0].is_authenticated}
        print_json({**found, "executions": manifest.executions, **blobs, **authenticated, **end})
        return
    total = sum(manifest.executions.values())
    print(f"{where}: {total} executions, {size >> 20} MiB, up to position {manifest.position}, {seconds:.1f} s")
    for each in removed:
        print(f"{each} removed")
    if manifest.missing:
        print(f"{manifest.missing} large payloads or bodies are missing")
    if manifest.secrets:
        print(f"its {manifest.secrets} secrets need secrets.key, {describe_key(manifest.secrets_key)}: keep it")
    if not made[0].is_authenticated:
        print(
            f"the secrets.key of this storage is not in {settings.data_dir}, so the backup is not authenticated:"
            " restore takes it only with --trust-unauthenticated"
        )


def restore(
    *,
    file: Annotated[str, Argument(metavar="FILE|s3://BUCKET/PREFIX/FILE", help="Backup that `flowhook backup` made.")],
    storage: Annotated[
        str, Option(metavar="STORAGE", help="sqlite:PATH, or nats://HOST:PORT,… of an empty log (FLOWHOOK_STORAGE).")
    ] = "",
    force: Annotated[
        bool, Option("--force", help="Move a database that is there aside, to before-restore-TIME beside it.")
    ] = False,
    trust_unauthenticated: Annotated[
        bool,
        Option(
            "--trust-unauthenticated",
            help="Restore whatever is in the file, without its tokens, if its secrets.key is lost.",
        ),
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
    with ExitStack() as opened:
        url = opened.enter_context(opened_storage(settings, storage, stopped=True))
        database = settings.database(url)
        shown, report = _shown(settings, url), _reporter(json=json)
        report(f"restoring into {shown}")
        connect = partial(backups.connected, settings)
        path = Path(file)
        if is_s3(file):
            prefix, _, name = file.rpartition("/")
            path = opened.enter_context(backups.s3_target(settings, prefix).fetched(name))
        since = opened.enter_context(opened_storage(settings)) if at else ""
        restoring = Restoring(
            archive=path,
            key=backups.key_of(settings),
            trusted=trust_unauthenticated,
            tokens=settings.data_dir / TOKENS,
            report=report,
            since=opened.enter_context(connect(since, "restore")) if since else None,
            until=until,
        )
        if database is None:
            replicated = opened.enter_context(connect(url, "restore", create=True))
            restored = restoring.to_log(replicated, settings.data_dir, heartbeat_seconds=HEARTBEAT_SECONDS)
        else:
            restored = restoring.to_database(database, force=force)
    seconds = time.monotonic() - start
    if json:
        aside, tokens = str(restored.aside) if restored.aside else "", [each.name for each in restored.tokens]
        found = {"storage": shown, "position": restored.position, "executions": restored.executions}
        end = {"secrets_key": restored.manifest.secrets_key, "seconds": round(seconds, 3)}
        found |= {"missing_blobs": restored.missing}
        print_json({**found, "tokens": tokens, "aside": aside, **end})
        return
    for status, number in restored.executions.items():
        print(f"{status}: {number}")
    print(
        f"{sum(restored.executions.values())} executions restored, up to position {restored.position}, {seconds:.1f} s"
    )
    _print_notes(restored, settings, has_key=restoring.key is not None)


def _print_notes(restored: Restored, settings: RouterSettings, *, has_key: bool) -> None:
    """Print what an operator should know or do before anything starts."""
    if restored.missing:
        print(f"{restored.missing} large payloads or bodies are missing")
    if restored.aside:
        print(f"what was there before is in {restored.aside}")
    for each in restored.tokens:
        print(f"token {each.name}: {', '.join(sorted(each.scopes))}")
    if restored.tokens and not (settings.data_dir / "admin.token").exists():
        print("the tokens are those of the backup: put back the files *.token, or use 'flowhook tokens rotate NAME'")
    if restored.manifest.secrets and not has_key:
        key = describe_key(restored.manifest.secrets_key)
        print(f"put secrets.key, {key}, into {settings.data_dir} before you start")


def _reporter(*, json: bool) -> Callable[[str], None]:
    """Return what prints a line of progress: stdout is for the result if that is JSON."""
    return partial(print, file=sys.stderr if json else sys.stdout, flush=True)


def _until(at: str) -> UntilPoint:
    from router.storage.backups.restoring import UntilPoint

    if not at:
        return UntilPoint()
    if at.isdecimal():
        return UntilPoint(position=int(at))
    from operations.execution_list import parse_time

    return UntilPoint(time_ms=int(parse_time(at, datetime.now(UTC)).timestamp() * 1000))


def migrate(
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
    from router.process import backups
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
    settings = router_settings(data_dir, nats_creds_file=nats_creds_file, nats_ca_file=nats_ca_file)
    with backups.connected(settings, url, "migrate", create=to_log) as replicated:
        migration = Migration(replicated, report=_reporter(json=json), heartbeat_seconds=HEARTBEAT_SECONDS)
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
