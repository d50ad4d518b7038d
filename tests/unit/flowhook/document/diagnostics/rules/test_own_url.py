"""What is said of a `webhook.path` and a `webhook.host` that no request can be for."""

from __future__ import annotations

from support.cases import cases
from support.flow_files import HEAD, faults_of

from flowhook.document.loader import parse

TASKS = "do: [{keep: {set: '${ .body }'}}]\n"


@cases("path", ["/hook", "/hook/orders", "/replies/x", "/healthz", "/readyz/x", "orders", "/a//b", "/a/../b", "/a?b",
                "/caf%C3%A9", "/a b", "", "/" + "x" * 300, "/a" * 17])  # fmt: skip
def test_a_path_is_one_that_requests_can_have_and_that_is_free(path):
    [(_, key, _)] = faults_of(f'{HEAD}webhook: {{auth: none, path: "{path}"}}\n{TASKS}')

    assert key == "webhook.path"


@cases("host", ["https://a.example", "a.example:80", "a_b.example", "-a.example", "*.example", "a..b", "x" * 64, ""])
def test_a_host_is_a_name(host):
    [(_, key, _)] = faults_of(f'{HEAD}webhook: {{auth: none, host: "{host}"}}\n{TASKS}')

    assert key == "webhook.host"


def test_the_url_of_a_flow():
    def url(keys):
        return parse(f"{HEAD}webhook: {{auth: none, {keys}}}\n{TASKS}".encode()).webhook.own_url

    assert url("methods: [POST]") is None
    assert url("path: /hooks/a") == ("", "/hooks/a", False)
    assert url("host: A.example") == ("a.example", "/", False)
    assert url("host: a.example, path: /wp-json/x/, subpaths: true") == ("a.example", "/wp-json/x/", True)
