"""Which certificates of edges test events trust."""

from __future__ import annotations

import pytest
from support.certificates import Authority

from admin.operations.edge_request import EdgeTrust
from admin.operations.edge_url import configured_url
from flowhook.errors import InvalidError


@pytest.fixture
def files(tmp_path):
    authority = Authority(tmp_path)
    return authority.ca_file, authority.issue("edge")[0]


def subjects(context):
    return [dict(pair for parts in each["subject"] for pair in parts)["commonName"] for each in context.get_ca_certs()]


def test_edges_of_this_machine_are_known_by_their_certificate_whatever_host_it_names(files):
    context = EdgeTrust(cert_file=files[1]).context()
    assert not context.check_hostname
    assert context.cert_store_stats()["x509"] == 1


def test_a_public_url_may_be_that_of_a_proxy_with_another_certificate(files):
    token = configured_url.set("https://hooks.example.com")
    try:
        context = EdgeTrust(*files).context()
    finally:
        configured_url.reset(token)
    assert (context.check_hostname, subjects(context)) == (True, ["test authority"])


def test_a_file_that_can_not_be_read_is_named(tmp_path):
    with pytest.raises(InvalidError, match=r"none\.pem"):
        EdgeTrust(ca_file=tmp_path / "none.pem").context()
