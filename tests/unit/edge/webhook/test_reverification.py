"""A refused request is verified by the clock of the time when it was refused, and by the flow as it is now."""

from __future__ import annotations

import pytest
from support.edge_heads import with_head

from edge.router.rejections import RejectionReporter
from edge.webhook.compiled_endpoints import FlowEndpoints
from edge.webhook.reverification import Reverification
from edge.webhook.stages import RequestViews, Stages
from flowhook.document.models.auth import parse_auth
from flowhook.document.models.webhook import Webhook
from flowhook.signatures.build import sign
from flowhook.v1.rejection_service_pb2 import AttachVerifierResponse

NOW = 1_700_000_000.0
STRIPE = {"stripe": {"secret": "k"}}
SQUARE = {"square": {"secret": "k"}}
BODY = b'{"id": "evt_9", "a": 1}'


class Directory:
    """A cache of flows that knows one flow, at each revision in turn."""

    def __init__(self, *revisions):
        self.revisions = list(revisions)

    async def find(self, flow_id):
        return self.revisions[0] if flow_id == "f" and self.revisions else None

    def drop(self, flow_id):
        del self.revisions[0]

    def known(self, first, limit):
        return []


def flow(auth=STRIPE, secret=b"whsec_right", revision=5, **webhook):
    return FlowEndpoints("f", Webhook.model_validate({"auth": auth, **webhook}), {"k": secret}, revision)


def signed(auth=STRIPE, *, at=NOW, url="http://h/hook/f", method="POST"):
    (kind,) = parse_auth(auth)
    added = sign(kind, {"k": b"whsec_right"}, method=method, url=url, body=BODY, headers=[], now=at)
    return [("host", b"h"), ("content-type", b"application/json")] + [
        (name.lower(), value.encode()) for name, value in added
    ]


@pytest.fixture
async def verify(counts):
    async def verify(directory, headers, *, body=BODY, target="/hook/f", method="POST", time=NOW, public_url=""):
        reporter = RejectionReporter(None, directory, None, counts)
        views = RequestViews(None, public_url)
        reverification = Reverification(directory, reporter, Stages(None, None, None), views)
        request = AttachVerifierResponse(flow_id="f", body=body, registry_revision=5)
        request.time.FromMilliseconds(int(time * 1000))
        request.original.MergeFrom(
            type(request.original)(
                method=method,
                target=target,
                host="h",
                headers=[{"name": name, "value": value} for name, value in headers],
                peer="192.0.2.1",
                scheme="http",
            )
        )
        return await reverification.answer(request)

    return verify


async def test_a_timestamp_is_judged_by_the_time_of_the_refusal(verify):
    answer = await verify(Directory(flow()), signed())
    assert (answer.event.flow_id, answer.event.body, answer.event.dedupe_key) == ("f", BODY, "stripe:evt_9")
    stale = await verify(Directory(flow()), signed(at=NOW - 3600))
    assert stale.refusal.reason == "TIMESTAMP_STALE"


async def test_no_credential_gets_into_the_event(verify):
    answer = await verify(Directory(flow()), [*signed(), ("authorization", b"Bearer x"), ("x-note", b"n")])
    assert [field.name for field in with_head(answer.event).headers] == ["host", "content-type", "x-note"]


async def test_a_flow_that_is_older_than_the_fix_is_read_again(verify):
    directory = Directory(flow(secret=b"whsec_wrong", revision=4), flow())
    assert (await verify(directory, signed())).event.flow_id == "f"


async def test_a_refusal_has_a_reason_and_a_diagnosis(verify):
    answer = await verify(Directory(flow()), signed(), body=BODY + b"\n")
    assert answer.refusal.reason == "SIGNATURE_MISMATCH"
    assert "line ends" in answer.refusal.message


async def test_the_url_is_that_which_the_edge_has_now(verify):
    headers = signed(SQUARE, url="https://h/hook/f")
    refused = await verify(Directory(flow(SQUARE)), headers)
    assert "--public-url" in refused.refusal.message
    accepted = await verify(Directory(flow(SQUARE)), headers, public_url="https://h/")
    assert accepted.event.flow_id == "f"


async def test_the_url_has_the_flows_own_host_if_the_request_had(verify):
    headers = signed(SQUARE, url="https://h/in")
    directory = Directory(flow(SQUARE, host="h", path="/in"))
    assert (await verify(directory, headers, target="/in", public_url="https://public.example")).event.flow_id == "f"


@pytest.mark.parametrize(
    ("webhook", "reason"),
    [
        ({"methods": ["PUT"]}, "METHOD_NOT_ALLOWED"),
        ({"allow_from": ["198.51.100.0/24"]}, "ADDRESS_FORBIDDEN"),
        ({"max_body": "10B"}, "BODY_TOO_LARGE"),
    ],
)
async def test_all_other_checks_hold_too(verify, webhook, reason):
    assert (await verify(Directory(flow(**webhook)), signed())).refusal.reason == reason


async def test_the_body_is_parsed_as_always(verify):
    answer = await verify(Directory(flow("none")), [("host", b"h"), ("content-type", b"application/json")], body=b"{")
    assert answer.refusal.reason == "BODY_INVALID"


async def test_a_handshake_is_no_event(verify):
    slack = {"slack": {"secret": "k"}}
    body = b'{"type": "url_verification", "challenge": "c"}'
    (kind,) = parse_auth(slack)
    added = sign(kind, {"k": b"s"}, method="POST", url="http://h/hook/f", body=body, headers=[], now=NOW)
    headers = [("host", b"h"), ("content-type", b"application/json")]
    headers += [(name.lower(), value.encode()) for name, value in added]
    answer = await verify(Directory(flow(slack, b"s")), headers, body=body)
    assert answer.refusal.reason == "HANDSHAKE"


async def test_what_was_deleted_is_named(verify):
    assert (await verify(Directory(flow(revision=1)), signed())).refusal.reason == "FLOW_NOT_FOUND"
    gone = await verify(Directory(flow(), flow()), signed(), target="/hook/f/done")
    assert gone.refusal.reason == "CALLBACK_NOT_FOUND"


async def test_a_head_that_is_no_longer_acceptable_is_refused(verify):
    answer = await verify(Directory(flow()), [*signed(), ("host", b"other")])
    assert answer.refusal.reason == "HOST_INVALID"


async def test_a_defect_is_reported_to_the_router(verify, caplog):
    class Broken(Directory):
        async def find(self, flow_id):
            raise RuntimeError("defect with a secret")

    answer = await verify(Broken(), signed())
    assert answer.refusal.reason == "VERIFIER_FAILED"
    assert "secret" not in answer.refusal.message
