"""TLS and mTLS between clients and a real router, with certificates made for the test."""

from __future__ import annotations

import asyncio
import shutil
import sys

import pytest
from support.certificates import Authority
from support.clients import Either, close
from support.patience import PATIENCE
from support.routers import running_router

from flowhook.client import AsyncClient, channel
from flowhook.errors import InvalidError, UnavailableError
from flowhook.process.settings import CommonSettings
from flowhook.v1 import flow_service_pb2, flow_service_pb2_grpc


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Have clients give up at the first failure: how long they try is tested in `test_router_away`."""
    monkeypatch.setattr("flowhook.client.router_errors.RETRY_SECONDS", 0.0)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
async def router(tmp_path, authority):
    """A router that shows a certificate and asks for one."""
    cert_file, key_file = authority.issue("router")
    async with running_router(
        tmp_path / "data", tls_cert_file=cert_file, tls_key_file=key_file, tls_client_ca_file=authority.ca_file
    ) as running:
        yield running


async def test_a_client_with_a_certificate_of_the_authority_is_served(router, authority, kind):
    cert_file, key_file = authority.issue("client")
    client = kind(
        router.target, token=router.token(), ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file
    )
    assert await Either(client)("flows.list") == []
    await close(client)


async def test_a_process_is_served_with_the_files_of_its_settings(router, authority):
    cert_file, key_file = authority.issue("edge")
    settings = CommonSettings(
        data_dir=router.settings.data_dir,
        router=router.target,
        router_ca_file=authority.ca_file,
        client_cert_file=cert_file,
        client_key_file=key_file,
    )
    async with channel.open_channel(settings, "admin") as connection:
        flows = flow_service_pb2_grpc.FlowServiceStub(connection)
        assert not (await flows.ListFlows(flow_service_pb2.ListFlowsRequest(), timeout=PATIENCE)).flows


async def test_a_client_without_a_certificate_is_not_served(router, authority):
    async with AsyncClient(router.target, token=router.token(), ca_file=authority.ca_file) as client:
        with pytest.raises(UnavailableError, match="check whether it requires TLS, or a client certificate"):
            await client.flows.pause("x")


async def test_a_replaced_authority_of_clients_is_in_force_without_a_restart(tmp_path, authority):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "another authority")
    files = authority.issue("router")
    clients = shutil.copy(authority.ca_file, tmp_path / "clients.pem")
    async with running_router(
        tmp_path / "data", tls_cert_file=files[0], tls_key_file=files[1], tls_client_ca_file=clients
    ) as router:
        formerly, now = authority.issue("client"), other.issue("client")
        assert await flows_seen_with(router, authority, formerly) == []
        shutil.copy(other.ca_file, clients)
        assert await flows_seen_with(router, authority, now) == []
        with pytest.raises(UnavailableError):
            await flows_seen_with(router, authority, formerly)
        other.issue("router")[0].replace(files[0])  # not the certificate of the key
        assert await flows_seen_with(router, authority, now) == []


async def flows_seen_with(router, authority, files):
    """Return the flows that a new client sees that presents a certificate, given as its file and that of its key."""
    async with AsyncClient(
        router.target, token=router.token(), ca_file=authority.ca_file, cert_file=files[0], key_file=files[1]
    ) as client:
        return [flow async for flow in client.flows.list()]


async def test_a_client_that_speaks_no_tls_learns_what_may_be_missing(router):
    async with AsyncClient(router.target, token=router.token()) as client:
        with pytest.raises(UnavailableError, match="it closed the connection; check whether it requires TLS"):
            await client.flows.pause("x")


async def test_a_client_that_knows_another_authority_does_not_talk_to_the_router(router, authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "another authority")
    cert_file, key_file = authority.issue("client")
    async with AsyncClient(
        router.target, token=router.token(), ca_file=other.ca_file, cert_file=cert_file, key_file=key_file
    ) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.flows.pause("x")
    assert caught.value.message == (
        f"can't reach the router at {router.target}: its certificate can't be verified (unable to get local issuer"
        " certificate); check that an authority in the CA file issued it"
    )


async def test_a_client_that_reaches_the_router_by_another_name_learns_so(tmp_path, authority):
    cert_file, key_file = authority.issue("router", ["router.internal"], addresses=[])
    async with (
        running_router(tmp_path / "data", tls_cert_file=cert_file, tls_key_file=key_file) as router,
        AsyncClient(router.target, token=router.token(), ca_file=authority.ca_file) as client,
    ):
        with pytest.raises(UnavailableError, match="its certificate is not valid for this host name; connect by"):
            await client.flows.pause("x")


async def test_a_client_that_speaks_tls_to_a_router_that_does_not_learns_so(tmp_path, authority):
    async with (
        running_router(tmp_path / "plain") as plain,
        AsyncClient(plain.target, token=plain.token(), ca_file=authority.ca_file) as client,
    ):
        with pytest.raises(UnavailableError, match="the TLS handshake failed; check that it uses TLS"):
            await client.flows.pause("x")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidError, match=r"no\.pem: No such file"):
        channel.tls_credentials(ca_file=tmp_path / "no.pem")


def test_a_certificate_without_its_key_is_refused(authority):
    with pytest.raises(InvalidError, match="key"):
        channel.tls_credentials(ca_file=authority.ca_file, cert_file=authority.ca_file)


def test_settings_without_a_token_say_where_one_was_looked_for(tmp_path):
    with pytest.raises(InvalidError, match=r"edge\.token"):
        channel.open_channel(CommonSettings(data_dir=tmp_path), "edge")


async def test_a_command_says_once_why_there_is_no_connection(router, authority, tmp_path):
    (tmp_path / "other").mkdir()
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "flows", "list", "--router", router.target),
        env={
            "FLOWHOOK_ROUTER_CA_FILE": str(Authority(tmp_path / "other", "another authority").ca_file),
            "FLOWHOOK_TOKEN": router.token(),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, text = await command.communicate()
    assert text.count(b"\n") == 1, text
    assert text.startswith(b"flowhook: can't reach the router at 127.0.0.1:")
