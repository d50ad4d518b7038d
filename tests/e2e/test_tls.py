"""A cluster whose edges end TLS, with a certificate that nobody but itself vouches for."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from support.certificates import self_signed
from support.systems import document, running_system, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

HOST = "hooks.example.com"
"""Which the certificate is for, as it is with real ones, while the tests connect to 127.0.0.1."""

URL_GIVER = document(
    "gives",
    webhook="{auth: none, callbacks: {approval: {}}}",
    do="- give: {set: '${ $runtime.metadata.callbacks.approval }'}",
)


BANK = document("bank", webhook="{auth: {mtls: {names: [bank.example.com]}}}")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Return the certificate and the key that a sender shows."""
    return self_signed(tmp_path_factory.mktemp("bank"), "bank.example.com")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return certificate and key, which a test may replace by others."""
    return self_signed(tmp_path_factory.mktemp("tls"), HOST)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(files, bank):
    certificate, key = files
    # by variables, which to a router alone mean something else; and one that tells of a router elsewhere
    settings = {"tls_cert_file": certificate, "tls_key_file": key, "tls_client_ca_file": bank[0]}
    settings["router_ca_file"] = certificate
    async with running_system("--runners", "1", **settings) as system:
        await system.apply(document("kept"), URL_GIVER, BANK)
        yield system


def by_name(certificate, shown=None):
    """Return how aiohttp is told to believe this certificate alone, under its own name, and to show another."""
    context = ssl.create_default_context(cafile=certificate)
    if shown is not None:
        context.load_cert_chain(*shown)
    return {"ssl": context, "server_hostname": HOST}


async def test_senders_reach_the_edges_over_tls_and_nothing_else_speaks_it(secured, files):
    base = secured.cluster.http
    answer = await secured.send("kept", {"n": 1}, **by_name(files[0]))
    assert await secured.completed(answer.id) == {"n": 1}
    assert base.startswith("https://")
    printed = [
        line for line in secured.cluster.output if not line.startswith("waiting for ")
    ]  # so it says where it is busy
    assert printed[:3] == [
        f"http     {base}\n",
        f"admin    {secured.cluster.admin}\n",
        f"grpc     {secured.cluster.grpc}\n",
    ]
    assert "flowhook ready\n" in printed
    assert (await secured.admin("/readyz")).status == 200
    listed = await secured.flowhook("flows", "list", "--json", FLOWHOOK_ROUTER_CA_FILE=files[0])
    assert {row["id"] for row in listed.rows} == {"bank", "gives", "kept"}, listed


async def test_flows_give_out_urls_of_https(secured, files):
    answer = await secured.send("gives", {}, **by_name(files[0]))
    assert (await secured.completed(answer.id)).startswith(f"{secured.cluster.http}/hook/gives/")


async def test_flows_may_ask_for_a_senders_own_certificate(secured, files, bank):
    assert (await secured.send("bank", {}, **by_name(files[0], bank))).status == 202
    assert (await secured.send("bank", {}, **by_name(files[0]))).status == 401


async def test_send_trusts_the_certificate_of_the_cluster_and_other_edges_by_its_options(secured, files, tmp_path):
    async def sent(*options):
        return await secured.flowhook("send", "kept", "--data", "{}", "--json", *options)

    assert (await sent()).rows[0]["status"] == 202
    elsewhere = ("--edge", secured.cluster.http)
    unknown = await sent(*elsewhere)
    assert (unknown.code, "--edge-ca-file names those that are" in unknown.err) == (1, True), unknown
    misnamed = await sent(*elsewhere, "--edge-ca-file", files[0])
    assert (misnamed.code, "IP address mismatch" in misnamed.err) == (1, True), misnamed
    other = self_signed(tmp_path / "other", HOST)[0]
    refused = await sent("--edge-ca-file", other)
    assert (refused.code, "certificate that is not trusted" in refused.err) == (1, True), refused


async def test_a_new_certificate_is_taken_without_a_restart(secured, files, tmp_path):
    url, running = urlsplit(secured.cluster.http), secured.cluster.pid("edge-1")
    for source, target in zip(self_signed(tmp_path / "second", HOST), files, strict=True):
        source.replace(target)

    async def renewed():
        shown = await asyncio.to_thread(ssl.get_server_certificate, (url.hostname, url.port))
        return shown == files[0].read_text()

    await until(renewed, "senders see the new certificate")
    assert (await secured.send("kept", {}, **by_name(files[0]))).status == 202
    assert (await secured.flowhook("send", "kept", "--data", "{}")).out.startswith("202 ")
    assert secured.cluster.pid("edge-1") == running
