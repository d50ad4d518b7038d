"""How client commands find the router and their token."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from cli.options import read_settings
from cli.settings import variable_name
from cli.supervisor.rundir import read_cluster
from flowhook.client import Client
from flowhook.config import CommonSettings, read_token
from flowhook.errors import UnavailableError

T = TypeVar("T")

_AWAY: Final = frozenset({"ROUTER_UNREACHABLE", "ROUTER_TIMEOUT"})


def settings_of(router: str | None, data_dir: Path | None) -> CommonSettings:
    """Return the settings of a client command.

    Without an address in options or environment, the cluster that runs on the data directory is meant, if one does.
    """
    settings = read_settings(CommonSettings, {"router": router, "data_dir": data_dir})
    if "router" not in settings.model_fields_set:
        cluster = read_cluster(settings.data_dir)
        if cluster is not None:
            # its port is on the loopback address; TLS that the environment speaks of is another router's
            plain = dict.fromkeys(("router_ca_file", "client_cert_file", "client_key_file"))
            return settings.model_copy(update={"router": cluster.grpc_address, **plain})
    return settings


@contextmanager
def open_client(router: str | None, data_dir: Path | None) -> Iterator[Client]:
    """Give a client with the admin token.

    Raises:
        InvalidError: there is no token, or a TLS file can't be read.
        UnavailableError: the router is away; says where the address comes from, unless an option gave it.
    """
    with client_of(settings_of(router, data_dir)) as client:
        yield client


@contextmanager
def client_of(settings: CommonSettings) -> Iterator[Client]:
    """Give a client with the admin token, for settings that were read already; raises as `open_client` does."""
    client = Client(
        settings.router,
        token=read_token(settings, "admin"),
        ca_file=settings.router_ca_file,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
    )
    with explained(settings), client:
        yield client


@contextmanager
def explained(settings: CommonSettings) -> Iterator[None]:
    """Add to an error of a router that is away why it was looked for at that address."""
    try:
        yield
    except UnavailableError as error:
        origin = _origin(settings) if error.reason in _AWAY else ""
        if not origin:
            raise
        raise UnavailableError(
            f"{error.message} ({origin})", reason=error.reason, retry_after=error.retry_after
        ) from None


def _origin(settings: CommonSettings) -> str:
    """Return where the router's address comes from; empty for an option, which who reads this has before them."""
    if "router" not in settings.model_fields_set:
        named = f"--router or {variable_name('router')} names another"
        return f"no cluster runs on {settings.data_dir}, so this is the default address; {named}"
    if os.environ.get(variable_name("router")) == settings.router:
        return f"the address is that of {variable_name('router')}"
    cluster = read_cluster(settings.data_dir)
    if cluster is not None and cluster.grpc_address == settings.router:
        return f"the address is that of the cluster on {settings.data_dir}"
    return ""


def of_flow(client: Client, flow_id: str, found: Iterator[T]) -> Iterator[T]:
    """Give what was found of a flow, or of all when the ID is empty.

    Raises:
        NotFoundError: nothing was, and there is no such flow. Of one that was deleted something may still be kept.
    """
    nothing = True
    for each in found:
        nothing = False
        yield each
    if nothing and flow_id:
        client.flows.get(flow_id)
