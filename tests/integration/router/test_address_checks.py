"""Routers that call one another at the addresses that they advertise, with TLS and without."""

from __future__ import annotations

import asyncio

import pytest
from support.certificates import Authority
from support.patience import PATIENCE
from support.routers import running_router

from flowhook.client.channel import open_plain, tls_credentials
from flowhook.process.settings import RouterSettings
from flowhook.v1.shard_service_pb2 import IdentifyRequest
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from router.cluster.reachability import AddressChecks, channel_opener
from router.cluster.records import MemberState, RouterRecord


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def tls(authority):
    certificate, key = authority.issue("router")
    return {"tls_cert_file": certificate, "tls_key_file": key}


async def instance_of(target, credentials=None):
    async with open_plain(target, credentials) as channel:
        return (await ShardServiceStub(channel).Identify(IdentifyRequest())).instance


async def found(opener, target, instance):
    """Check one router, and return why it can't be called."""
    record = RouterRecord("r2", target, "1", MemberState.FOLLOWING, 1, 0, 0, candidate=True, instance=instance)
    checks = AddressChecks("r1", opener, lambda: [record], timeout=PATIENCE)
    running = asyncio.create_task(checks.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while not checks.checked:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    [*unreachable] = checks.unreachable()
    assert all((each.router, each.process) == ("r2", "r1") for each in unreachable)
    return [each.cause for each in unreachable]


async def test_a_router_that_answers_is_found_and_another_one_is_told_from_it(tmp_path):
    async with running_router(tmp_path / "data") as router:
        opener = channel_opener(RouterSettings())
        instance = await instance_of(router.target)
        assert await found(opener, router.target, instance) == []
        assert await found(opener, router.target, "another") == ["another router answers there"]
        assert await found(opener, "127.0.0.1:1", instance) == ["connection refused"]


async def test_with_tls_the_certificate_is_verified(tmp_path, authority, tls):
    async with running_router(tmp_path / "data", **tls) as router:
        instance = await instance_of(router.target, tls_credentials(ca_file=authority.ca_file))
        opener = channel_opener(RouterSettings(router_ca_file=authority.ca_file, **tls))
        assert await found(opener, router.target, instance) == []
        [cause] = await found(channel_opener(RouterSettings()), router.target, instance)
        assert "TLS" in cause


@pytest.mark.parametrize("mutual", [True, False])
def test_a_router_that_could_not_verify_or_not_show_a_certificate_checks_nothing(tls, authority, mutual):
    settings = {"tls_client_ca_file": authority.ca_file, "router_ca_file": authority.ca_file} if mutual else {}
    assert channel_opener(RouterSettings(**tls, **settings)) is None
    assert AddressChecks("r1", None, list).unreachable() == []


def test_it_takes_the_settings_of_clients(tls, authority):
    certificate, key = authority.issue("client")
    settings = RouterSettings(
        tls_client_ca_file=authority.ca_file,
        router_ca_file=authority.ca_file,
        client_cert_file=certificate,
        client_key_file=key,
        **tls,
    )
    assert channel_opener(settings) is not None
