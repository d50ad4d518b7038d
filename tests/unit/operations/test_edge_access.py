"""Which URL and which certificates of edges test events use."""

from __future__ import annotations

import pytest
from support.cases import cases
from support.certificates import Authority

from flowhook.client import ProcessInfo
from flowhook.errors import InvalidError
from operations.edges import EdgeAccess, reported_url


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


def edge(name, url, *, ready=True, host="far", role="edge"):
    return ProcessInfo(name, role, "", 1, host, ready, "", b"", 0.1, url)


@cases(
    ("processes", "url"),
    [
        ([], ""),
        ([edge("edge-1", "")], ""),
        ([edge("runner-1", "http://evil.example", role="runner")], ""),
        ([edge("edge-2", "http://b"), edge("edge-1", "http://a")], "http://a"),
        ([edge("edge-1", "http://a", ready=False), edge("edge-2", "http://b")], "http://b"),
        ([edge("edge-1", "http://a", ready=False)], "http://a"),
        ([edge("edge-1", "https://0.0.0.0:8443")], "https://far:8443"),
        ([edge("edge-1", "http://[::]:8080", host="near")], "http://127.0.0.1:8080"),
        ([edge("edge-1", "http://[::1]:8080")], "http://[::1]:8080"),
        ([edge("edge-1", "http://0.0.0.0")], "http://far"),
    ],
)
def test_the_first_edge_that_is_ready_gives_the_url(processes, url):
    assert reported_url(processes, "near") == url


@cases(
    ("url", "host"),
    [
        ("http://[", "far"),
        ("http://0.0.0.0:99999", "far"),
        ("http://0.0.0.0:80", "far;id"),
        ("http://0.0.0.0:80", "[$(id)]"),
        ("http://$(id)", "far"),
        ("http://a;id", "far"),
        ("http://a b", "far"),
        ("http://a/b?", "far"),
        ("http://user:pass@a", "far"),
        ("http://a\\b", "far"),
        ("javascript:alert(1)", "far"),
        ("//a", "far"),
    ],
)
def test_what_is_no_url_of_a_server_is_passed_over(url, host):
    bad = edge("edge-1", url, host=host)
    assert reported_url([bad], "near") == ""
    assert reported_url([bad, edge("edge-2", "http://b", ready=False)], "near") == "http://b"
