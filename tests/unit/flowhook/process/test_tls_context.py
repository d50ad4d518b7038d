"""Which edges a command believes; both ends in memory."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from support.certificates import Authority, self_signed

from flowhook.errors import InvalidError
from flowhook.process import tls_context


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def shake_hands(context, files, host="127.0.0.1"):
    """Connect to a server that shows these files, as to `host`."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(*files)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.version() is not None


def test_a_certificate_is_believed_itself_whatever_host_it_is_for(tmp_path, authority):
    own = self_signed(tmp_path / "own", "hooks.example.com")
    shake_hands(tls_context.context_for_certificate(own[0]), own)
    signed = authority.issue("edge")
    shake_hands(tls_context.context_for_certificate(signed[0]), signed)


def test_another_certificate_for_the_same_host_is_not_believed(tmp_path):
    own, other = (self_signed(tmp_path / name, "hooks.example.com") for name in ("own", "other"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls_context.context_for_certificate(own[0]), other)


def test_what_the_issuer_in_the_file_signs_for_others_is_not_believed(tmp_path, authority):
    chain = tmp_path / "chain.pem"
    signed = authority.issue("edge")
    chain.write_bytes(signed[0].read_bytes() + authority.ca_file.read_bytes())
    shake_hands(tls_context.context_for_certificate(chain), signed)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls_context.context_for_certificate(chain), authority.issue("stranger"))


def test_authorities_and_single_certificates_are_believed_for_the_hosts_they_name(tmp_path, authority):
    shake_hands(tls_context.context_for_authorities(authority.ca_file), authority.issue("edge"))
    own = self_signed(tmp_path / "own", "hooks.example.com")
    shake_hands(tls_context.context_for_authorities(own[0]), own, "hooks.example.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(tls_context.context_for_authorities(own[0]), own)


def test_without_a_file_what_the_system_trusts_is_believed_and_no_more(tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls_context.context_for_authorities(None), self_signed(tmp_path / "own", "a.example"), "a.example")


@pytest.mark.parametrize("read", [tls_context.context_for_authorities, tls_context.context_for_certificate])
def test_a_file_that_is_none_of_certificates_is_refused_by_name(tmp_path, read):
    with pytest.raises(InvalidError, match=r"gone\.pem: No such file"):
        read(tmp_path / "gone.pem")
    for content in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        path = tmp_path / "bad.pem"
        path.write_bytes(content)
        with pytest.raises(InvalidError, match=r"bad\.pem: it contains no PEM certificate"):
            read(path)
