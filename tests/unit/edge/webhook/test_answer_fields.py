"""Fields of answers are valid, whatever the limits of a flow are."""

from __future__ import annotations

from types import SimpleNamespace

from support.cases import cases

from edge.http.responses import FLOW_FOUND
from edge.webhook.answer_fields import MAX_INTEGER, compile_fields
from flowhook.document.models.webhook import Webhook


@cases(
    ("per_second", "window", "wait"),
    [(2, 2, 2), (0.001, 4000, 3000), (1e-20, MAX_INTEGER, MAX_INTEGER), (5e-324, MAX_INTEGER, MAX_INTEGER)],
)
def test_times_are_integers_of_structured_fields(per_second, window, wait):
    webhook = Webhook.model_validate({"auth": "none", "rate_limit": {"per_second": per_second, "burst": 4}})
    delivery = SimpleNamespace(flow_remaining=1, sender_remaining=None)
    added = compile_fields(webhook).added(FLOW_FOUND, delivery).head
    assert f'RateLimit-Policy: "flow";q=4;w={window}\r\n'.encode() in added
    assert f'RateLimit: "flow";r=1;t={wait}\r\n'.encode() in added
