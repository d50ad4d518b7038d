"""Finds the router and the token for client commands, and opens clients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from cli.options import read_settings
from cli.setting_names import variable_name
from cli.supervisor.rundir import DEV_DATA_DIR, ClusterAddresses, read_cluster
from flowhook.client import Client
from flowhook.client.router_errors import NO_SERVING_ROUTER
from flowhook.errors import InvalidError, UnavailableError
from flowhook.process.settings import CommonSettings, read_token

S = TypeVar("S", bound=CommonSettings)
_AWAY: Final = frozenset({"ROUTER_UNREACHABLE", "ROUTER_TIMEOUT", NO_SERVING_ROUTER})


def client_settings(router: str | None, data_dir: Path | None) -> CommonSettings:
    """Return the settings of a client command.

    If neither options nor environment set an address, it is that of the cluster running on the data directory, if any.
    If they set no directory either, a cluster of `flowhook dev` is found as well.
    """
    settings = read_settings(CommonSettings, {"router": router, "data_dir": data_dir})
    if "router" not in settings.model_fields_set:
        settings, cluster = find_cluster(settings)
        if cluster is not None:
            # its port is on the loopback address, without TLS; TLS settings of the environment are for another router
            plain = dict.fromkeys(("router_ca_file", "client_cert_file", "client_key_file"))
            return settings.model_copy(update={"router": cluster.grpc_address, **plain})
    return settings


def find_cluster(settings: S) -> tuple[S, ClusterAddresses | None]:
    """Return the cluster that runs on the data directory, if any, and the settings with its directory.

    Where they set none, that of `flowhook dev` counts as well.
    """
    cluster = read_cluster(settings.data_dir)
    if cluster is None and "data_dir" not in settings.model_fields_set:
        cluster = read_cluster(DEV_DATA_DIR)
        if cluster is not None:
            settings = settings.model_copy(update={"data_dir": DEV_DATA_DIR})
    return settings, cluster


def open_client(router: str | None, data_dir: Path | None) -> AbstractContextManager[Client]:
    """Open a client with the admin token; raises as `client_for` does."""
    return client_for(client_settings(router, data_dir))


@contextmanager
def client_for(settings: CommonSettings) -> Iterator[Client]:
    """Open a client with the admin token, for given settings.

    Raises:
        InvalidError: there is no token, or a TLS file can't be read.
        UnavailableError: the router is unreachable; states the origin of its address, unless that is an option.
    """
    try:
        token = read_token(settings, "admin")
    except InvalidError as error:
        if "router" in settings.model_fields_set:
            raise
        raise InvalidError(f"no cluster runs here, and there is {error.message}", reason=error.reason) from None
    client = Client(
        settings.router,
        token=token,
        ca_file=settings.router_ca_file,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
    )
    with explain_unreachable(settings), client:
        yield client


@contextmanager
def explain_unreachable(settings: CommonSettings) -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        origin = _origin(settings) if error.reason in _AWAY else ""
        if not origin:
            raise
        text = f"{error.message} ({origin})"
        raise UnavailableError(text, reason=error.reason, retry_after=error.retry_after) from None


def _origin(settings: CommonSettings) -> str:
    """Return the origin of the router's address; empty for an option, which the user has just typed."""
    if "router" not in settings.model_fields_set:
        named = f"--router or {variable_name('router')} names another"
        return f"no cluster runs on {settings.data_dir}, so this is the default address; {named}"
    if os.environ.get(variable_name("router")) == settings.router:
        return f"the address is that of {variable_name('router')}"
    cluster = read_cluster(settings.data_dir)
    if cluster is not None and cluster.grpc_address == settings.router:
        return f"the address is that of the cluster on {settings.data_dir}"
    return ""
