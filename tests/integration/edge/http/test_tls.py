"""TLS that the edge ends itself, senders' certificates, and balancers that see no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl

import pytest
from cryptography.hazmat.primitives import serialization
from support.certificates import Authority
from support.patience import PATIENCE

from flowhook.errors import InvalidError
from flowhook.process.server_certificates import Certificates, load_certificates


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def files(authority, tmp_path):
    """Return the files that the edge reads, which a test may replace."""
    certificate, key = authority.issue("edge")
    return shutil.copy(certificate, tmp_path / "cert.pem"), shutil.copy(key, tmp_path / "key.pem")


@pytest.fixture
def settings(files, authority):
    certificate, key = files
    return {"tls_cert_file": certificate, "tls_key_file": key, "tls_client_ca_file": authority.ca_file}


def trusting(authority, name=None, issuer=None):
    """Return a sender's context; with `name`, it presents a certificate that `issuer` (default: `authority`) issued."""
    context = ssl.create_default_context(cafile=authority.ca_file)
    if name is not None:
        context.load_cert_chain(*(issuer or authority).issue(name, [name]))
    return context


REQUEST = b"POST /hook/bank HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def post(edge, context, target="/hook/open", lead=b"", body=b'{"a": 1}'):
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, **({} if lead else {"ssl": context}))
    try:
        if lead:
            writer.write(lead)
            await writer.start_tls(context, server_hostname="127.0.0.1")
        for _ in range(2):  # the connection persists
            writer.write(
                f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n".encode()
                + b"Content-Length: %d\r\n\r\n" % len(body)
                + body
            )
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
            await reader.readexactly(length)
        shown = writer.get_extra_info("ssl_object").getpeercert()["subject"][0][0][1]
        return int(head[9:12]), shown
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_senders_are_served_over_tls(start_edge, settings, authority):
    edge = await start_edge(**settings)
    edge.router.put_flow("open")
    assert await post(edge, trusting(authority)) == (202, "edge")
    assert len(edge.events()) == 2


async def test_bodies_of_many_records_come_as_they_are(start_edge, settings, authority):
    edge = await start_edge(**settings)
    edge.router.put_flow("open")
    body = b'["%s"]' % (b"0123456789abcdef" * 60_000)
    assert (await post(edge, trusting(authority), body=body))[0] == 202
    assert [event.body for event in edge.events()] == [body] * 2


async def test_who_does_not_speak_tls_is_let_go(start_edge, settings):
    edge = await start_edge(**settings)
    sender = await edge.connect()
    sender.write(b"POST /hook/open HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"HTTP/" not in await sender.at_eof()


async def test_a_flow_may_ask_for_a_certificate_with_a_name(start_edge, settings, authority):
    edge = await start_edge(**settings)
    edge.router.put_flow("bank", auth={"mtls": {"names": ["bank"]}})
    assert (await post(edge, trusting(authority, "bank"), "/hook/bank"))[0] == 202
    assert (await post(edge, trusting(authority, "other"), "/hook/bank"))[0] == 401
    assert (await post(edge, trusting(authority), "/hook/bank"))[0] == 401
    assert {event.principal.secret for event in edge.events()} == {"bank"}


async def test_a_certificate_of_another_authority_is_refused(start_edge, settings, authority, tmp_path):
    (tmp_path / "other").mkdir()
    context = trusting(authority)
    context.load_cert_chain(*Authority(tmp_path / "other").issue("bank"))
    edge = await start_edge(**settings)
    edge.router.put_flow("open")
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await post(edge, context)


async def test_a_new_certificate_is_taken_without_a_restart(start_edge, settings, files, authority):
    edge = await start_edge(**settings)
    edge.router.put_flow("open")
    for source, target in zip(authority.issue("renewed"), files, strict=True):
        source.replace(target)
    async with asyncio.timeout(PATIENCE):
        while (await post(edge, trusting(authority)))[1] != "renewed":
            await asyncio.sleep(0.05)


async def test_a_replaced_authority_of_senders_is_in_force_without_a_restart(start_edge, settings, authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "another authority")
    settings["tls_client_ca_file"] = shutil.copy(authority.ca_file, tmp_path / "clients.pem")
    edge = await start_edge(**settings)
    edge.router.put_flow("bank", auth={"mtls": {"names": ["bank"]}})
    formerly, now = trusting(authority, "bank"), trusting(authority, "bank", other)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=formerly)
    writer.write(REQUEST)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")
    shutil.copy(other.ca_file, settings["tls_client_ca_file"])
    await asyncio.wait_for(reader.read(), PATIENCE)  # the connection of a certificate that is not trusted any more ends
    assert (await post(edge, now, "/hook/bank"))[0] == 202
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await post(edge, formerly, "/hook/bank")
    writer.close()


async def test_a_request_in_progress_is_the_last_one_of_a_sender_whose_authority_was_replaced(
    start_edge, settings, authority, tmp_path
):
    (tmp_path / "other").mkdir()
    settings["tls_client_ca_file"] = shutil.copy(authority.ca_file, tmp_path / "clients.pem")
    edge = await start_edge(**settings)
    edge.router.put_flow("bank", auth={"mtls": {"names": ["bank"]}})
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=trusting(authority, "bank"))
    writer.write(REQUEST[:-1])
    other = Authority(tmp_path / "other", "another authority")
    shutil.copy(other.ca_file, settings["tls_client_ca_file"])
    async with asyncio.timeout(PATIENCE):
        while True:  # until the edge refuses the sender's certificate on new connections
            try:
                await post(edge, trusting(authority, "bank"), "/hook/bank")
            except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
                break
    writer.write(REQUEST[-1:] + REQUEST)
    answers = await asyncio.wait_for(reader.read(), PATIENCE)
    assert answers.count(b"HTTP/1.1 202 ") == 1
    assert b"Connection: close" in answers
    writer.close()


async def test_a_common_name_counts_only_in_a_certificate_without_alternative_names(start_edge, settings, authority):
    edge = await start_edge(**settings)
    edge.router.put_flow("bank", auth={"mtls": {"names": ["bank"]}})
    old, new = trusting(authority), trusting(authority)
    old.load_cert_chain(*authority.issue("bank", addresses=()))
    assert (await post(edge, old, "/hook/bank"))[0] == 202
    new.load_cert_chain(*authority.issue("bank", ["mallory"]))
    assert (await post(edge, new, "/hook/bank"))[0] == 401
    edge = await start_edge(**settings, tls_client_common_names=True)
    edge.router.put_flow("bank", auth={"mtls": {"names": ["bank"]}})
    assert (await post(edge, new, "/hook/bank"))[0] == 202


def test_files_that_can_not_be_loaded_are_reported_once(files, authority, capsys):
    certificates = Certificates(*files, None)
    authority.issue("other")[0].replace(files[0])
    for _ in range(3):
        certificates.refresh()
    assert capsys.readouterr().out.count("certificates not renewed") == 1


def shown_by(certificates, authority):
    """Return the name in the certificate that the next sender sees."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    client = trusting(authority).wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert()["subject"][0][0][1]


def test_a_certificate_without_its_key_leaves_the_old_one(files, authority):
    certificates = Certificates(*files, None)
    other = authority.issue("other")
    other[0].replace(files[0])
    certificates.refresh()
    assert shown_by(certificates, authority) == "edge"
    other[1].replace(files[1])
    certificates.refresh()
    assert shown_by(certificates, authority) == "other"


def test_files_that_are_none_are_reported(tmp_path):
    with pytest.raises(InvalidError, match="TLS can't be set up"):
        Certificates(tmp_path / "a", tmp_path / "b", None)


def test_a_key_that_takes_a_passphrase_is_refused_rather_than_requested(files, authority):
    certificates = Certificates(*files, None)
    plain = serialization.load_pem_private_key(files[1].read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"a passphrase")
    files[1].write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    with pytest.raises(InvalidError, match="the key takes a passphrase"):
        Certificates(*files, None)
    certificates.refresh()
    assert shown_by(certificates, authority) == "edge"


def test_files_that_are_useless_without_another_are_reported(files, authority):
    for given in ((files[0], None, None), (None, files[1], None), (None, None, authority.ca_file)):
        with pytest.raises(InvalidError, match="TLS needs both --tls-cert-file and --tls-key-file"):
            load_certificates(*given)
    assert load_certificates(None, None, None) is None


async def test_a_balancer_says_who_is_behind_it(start_edge):
    edge = await start_edge(proxy_protocol=True)
    edge.router.put_flow("near", allow_from=["192.0.2.0/24"])
    for source, status in (("192.0.2.9", 202), ("198.51.100.7", 403)):
        sender = await edge.connect()
        sender.write(f"PROXY TCP4 {source} 10.0.0.1 1 2\r\n".encode())
        answer = await sender.request("POST", "/hook/near", body=b"{}", headers=[("Content-Type", "application/json")])
        assert answer.status == status
    sender = await edge.connect()
    sender.write(b"POST /hook/near HTTP/1.1\r\nHost: h\r\n\r\n")
    assert await sender.at_eof() == b""


async def test_a_balancer_may_pass_tls_through(start_edge, settings, authority):
    edge = await start_edge(**settings, proxy_protocol=True)
    edge.router.put_flow("near", allow_from=["192.0.2.0/24"])
    lead = b"PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n"
    assert (await post(edge, trusting(authority), "/hook/near", lead))[0] == 202


async def test_a_trusted_proxy_says_who_is_behind_it(start_edge):
    edge = await start_edge(trusted_proxies="127.0.0.0/8")
    edge.router.put_flow("near", allow_from=["192.0.2.0/24"])
    headers = [("Content-Type", "application/json"), ("X-Forwarded-For", "192.0.2.9")]
    assert (await edge.post("/hook/near", b"{}", headers)).status == 202
    assert (await edge.post("/hook/near", b"{}")).status == 403
