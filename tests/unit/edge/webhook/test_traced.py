"""What spans say of a request."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace

from support.cases import cases

from edge.webhook.traced import _of_request


def seen(url, **head):
    given = {"method": "POST", "path": "/hook/pay", "headers": [], **head}
    endpoint = SimpleNamespace(flow_id="pay", callback="", one_time=False)
    request = SimpleNamespace(url=url)
    delivery = SimpleNamespace(
        head=SimpleNamespace(**given), endpoint=endpoint, request=request, address=ipaddress.ip_address("192.0.2.1")
    )
    return _of_request(delivery, "/hook/{flow}")


@cases(
    ("url", "address", "port"),
    [
        ("https://hooks.example/hook/pay?a=1", "hooks.example", None),
        ("http://127.0.0.1:8080/hook/pay", "127.0.0.1", 8080),
        ("http://127.0.0.1/hook/pay", "127.0.0.1", None),
        ("http://[::1]:80/hook/pay", "[::1]", 80),
        ("http://[::1]/hook/pay", "[::1]", None),
        ("http://a:999999999999/hook/pay", "a", None),
        ("http:///hook/pay", "", None),
    ],
)
def test_the_server_is_where_the_sender_thinks_it_is(url, address, port):
    found = seen(url)

    assert (found["server.address"], found.get("server.port")) == (address, port)


def test_a_method_that_is_not_known_is_not_repeated():
    assert seen("http://a/", method="BREW")["http.request.method"] == "_OTHER"


def test_the_user_agent_is_the_only_header():
    headers = [("user-agent", b"curl/8"), ("x-secret", b"hush")]
    found = seen("http://a/", headers=headers)

    assert found["user_agent.original"] == "curl/8"
    assert "hush" not in str(found)
