"""Which URL and which certificates of edges test events use."""

from __future__ import annotations

import pytest
from support.certificates import Authority

from flowhook.errors import InvalidError
from operations.edge_access import EdgeAccess


@pytest.fixture
def files(tmp_path):
    authority = Authority(tmp_path)
    return authority.ca_file, authority.issue("edge")[0]


def subjects(context):
    return [dict(pair for parts in each["subject"] for pair in parts)["commonName"] for each in context.get_ca_certs()]


def test_edges_of_this_machine_are_known_by_their_certificate_whatever_host_it_names(files):
    context = EdgeAccess(cert_file=files[1]).context()
    assert not context.check_hostname
    assert context.cert_store_stats()["x509"] == 1


def test_a_public_url_may_be_that_of_a_proxy_with_another_certificate(files):
    context = EdgeAccess("https://hooks.example.com", *files).context()
    assert (context.check_hostname, subjects(context)) == (True, ["test authority"])


def test_a_file_that_can_not_be_read_is_named(tmp_path):
    with pytest.raises(InvalidError, match=r"none\.pem"):
        EdgeAccess(ca_file=tmp_path / "none.pem").context()


async def test_the_setting_comes_before_the_reports():
    assert await EdgeAccess("https://hooks.example.com").url(None) == "https://hooks.example.com"
