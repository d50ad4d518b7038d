"""`flowhook incidents` against a running cluster, with a flow that calls a port that nothing listens on."""

from __future__ import annotations

import time

from support.commands import send_event, wait_for_end
from support.patience import PATIENCE

FLOW = """
document: {dsl: 1.0.3, namespace: default, name: lost, version: 1.0.0}
webhook: {auth: none}
execution: {outage: {failures: 1, probe: PT5M}, retry: {delay: PT0.1S, limit: {attempt: {count: 5}}}}
do:
  - guarded:
      try:
        - ask: {call: http, with: {method: get, endpoint: "http://127.0.0.1:1/secret-path?token=abc"}}
      catch:
        errors: {with: {status: 503}}
        as: error
        do:
          - say: {set: {said: "${ $error.title }"}}
"""


def test_what_is_down_is_listed_tried_and_let_fail(cluster, tmp_path):
    assert cluster.run("incidents", "list").out == "no incidents\n"
    path = tmp_path / "lost.yaml"
    path.write_text(FLOW)
    assert cluster.run("apply", "-f", path).code == 0
    execution_id = send_event(cluster, "lost", "{}")
    give_up = time.monotonic() + PATIENCE
    while not (found := cluster.run("incidents", "list", "--open-only", "--json").rows) or not found[0]["waiting"]:
        assert time.monotonic() < give_up
    [incident] = found
    assert (incident["destination"], incident["flows"], incident["closed_at"]) == ("http://127.0.0.1:1", ["lost"], None)
    shown = cluster.run("incidents", "list").out
    assert incident["id"] in shown
    assert "down" in shown
    assert "secret-path" not in str(found)
    assert "waits for http://127.0.0.1:1, which is down" in cluster.run("executions", "list").out
    assert cluster.run("executions", "get", execution_id, "--json").rows[0]["destinations"] == ["http://127.0.0.1:1"]
    details = cluster.run("incidents", "get", incident["id"])
    assert "down for lost: can't connect" in details.out
    assert cluster.run("incidents", "get", incident["id"], "--json").rows[0]["history"]
    let = cluster.run("incidents", "let-fail", incident["id"])
    assert let.out == f"{incident['id']}: the calls of 1 executions fail\n"
    ended = wait_for_end(cluster, execution_id)
    assert (ended["status"], ended["output"]) == ("completed", {"said": "Destination Down"})
    probed = cluster.run("incidents", "probe", incident["id"])
    assert probed.out == f"{incident['id']}: the next probe of http://127.0.0.1:1 is made now\n"
    unknown = cluster.run("incidents", "get", "inc_none")
    assert unknown.code == 1
