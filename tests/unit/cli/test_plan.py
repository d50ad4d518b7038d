"""What the processes of a local cluster are told."""

from __future__ import annotations

import pytest

from cli.supervisor.plan import UpSettings


def public_url(role, **settings):
    command = UpSettings(**settings).command(role, f"{role}-1", http_port=8099, admin_port=1, grpc_port=2)
    return command.environment["FLOWHOOK_PUBLIC_URL"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8099"),
        ("0.0.0.0", "http://127.0.0.1:8099"),
        ("hooks.example", "http://hooks.example:8099"),
        ("::1", "http://[::1]:8099"),
    ],
)
def test_runners_give_out_urls_of_the_edge_and_edges_keep_to_the_host_they_are_asked_for(host, url):
    assert public_url("runner", host=host) == url
    assert public_url("edge", host=host) == ""


def test_a_public_url_that_is_given_is_everybodys():
    for role in ("runner", "edge"):
        assert public_url(role, public_url="https://hooks.example") == "https://hooks.example"
