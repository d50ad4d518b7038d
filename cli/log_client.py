"""Opens a replicated log for commands that work on it while no router runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Option

from cli.options import read_settings, refuse_credentials
from cli.setting_names import variable_name

if TYPE_CHECKING:
    from flowhook.process.settings import RouterSettings
    from router.storage.commit_log.seals import ClusterKeys

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
    """Return the settings of a router with this data directory, and others; None: with those of the environment."""
    from flowhook.process.settings import RouterSettings

    return read_settings(RouterSettings, {"data_dir": data_dir, **given})


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
def local_servers(data_dir: Path) -> Iterator[str]:
    """Run the NATS servers of a local cluster that does not run, and give their URL."""
    from cli.supervisor.nats_servers import NatsServers
    from cli.supervisor.rundir import RunDir
    from flowhook.sandbox.spawning import spawn

    with closing(RunDir(data_dir)), closing(NatsServers.prepare(data_dir)) as servers:
        commands = [program.command for program in servers.programs(os.environ)]
        processes = [spawn(each.arguments, environment=each.environment) for each in commands]
        try:
            yield servers.storage()
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                asyncio.run(process.wait())


@contextmanager
def opened_storage(settings: RouterSettings, given: str = "", *, stopped: bool = False) -> Iterator[str]:
    """Give the URL of the storage: that of an option, else that of routers with these settings.

    `stopped`: whether a local cluster must not run; its NATS servers then run for a while.
    """
    from cli.supervisor.cluster_spec import LOCAL_NATS
    from cli.supervisor.nats_servers import NatsServers

    refuse_credentials("--storage", given, variable_name("storage"))
    url = given or settings.storage
    if url.partition("?")[0] != LOCAL_NATS:
        yield url
    elif stopped:
        with local_servers(settings.data_dir) as servers:
            yield servers
    else:
        yield NatsServers.running(settings.data_dir).storage()


def describe_key(fingerprint: str) -> str:
    """Return which key of secrets a backup needs; the database may have no fingerprint of it."""
    return f"whose fingerprint is {fingerprint}" if fingerprint else "with which they were set"
