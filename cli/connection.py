"""How client commands find the router and their token."""

from __future__ import annotations

from pathlib import Path

from cli.options import read_settings
from cli.supervisor.rundir import read_cluster
from flowhook.client import Client
from flowhook.config import CommonSettings, read_token


def settings_of(router: str | None, data_dir: Path | None) -> CommonSettings:
    """Return the settings of a client command.

    Without an address in options or environment, the cluster that runs on the data directory is meant, if one does.
    """
    settings = read_settings(CommonSettings, {"router": router, "data_dir": data_dir})
    if "router" not in settings.model_fields_set:
        cluster = read_cluster(settings.data_dir)
        if cluster is not None:
            return settings.model_copy(update={"router": cluster.grpc_address})
    return settings


def open_client(router: str | None, data_dir: Path | None) -> Client:
    """Return a client with the admin token.

    Raises:
        InvalidError: there is no token, or a TLS file can't be read.
    """
    return client_of(settings_of(router, data_dir))


def client_of(settings: CommonSettings) -> Client:
    """Return a client with the admin token, for settings that were read already.

    Raises:
        InvalidError: there is no token, or a TLS file can't be read.
    """
    return Client(
        settings.router,
        token=read_token(settings, "admin"),
        ca_file=settings.router_ca_file,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
    )
