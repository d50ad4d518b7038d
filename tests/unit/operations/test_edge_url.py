"""The URL that senders use: the reports of edges, and the setting that comes before them."""

from __future__ import annotations

from support.cases import cases

from flowhook.client import ProcessInfo
from operations.edge_url import reported_url


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
