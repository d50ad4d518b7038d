"""What refused requests cost: nothing before their senders are answered, and little afterwards."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest
from support.patience import PATIENCE

from edge.http import responses
from edge.http.head import parse_head
from edge.http.peer import Peer
from edge.router.rejections import MAX_DIAGNOSED_BYTES, MAX_DIAGNOSES, RejectionReporter
from edge.webhook.compiled_endpoints import CompiledEndpoint
from edge.webhook.log_limiter import FLOW_BURST, PerFlowLimiter
from edge.webhook.stages import Delivery
from flowhook.document.models.webhook import Webhook
from flowhook.model.rejections import RequestOutcome
from flowhook.signatures.types import RequestView, SignatureError

NOW = 1_700_000_000.0
PEER = Peer("192.0.2.1", "http", ip_address("192.0.2.1"))
WRONG = SignatureError("the signature does not match", reason="SIGNATURE_MISMATCH")


class RecordingRouter:
    """A router that is told, and a directory that knows nothing."""

    def __init__(self):
        self.rejections = []
        self.all = asyncio.Event()
        self.expected = 0

    async def report(self, batch):
        self.rejections.extend(batch)
        if len(self.rejections) >= self.expected:
            self.all.set()

    def known(self, first, limit):
        return []


@pytest.fixture
async def router():
    return RecordingRouter()


@pytest.fixture
def diagnosed():
    """The requests that were diagnosed."""
    return []


@pytest.fixture
def explain(diagnosed):
    def explain(verifiers, request, now, others, readings):
        diagnosed.append(request)
        return "because"

    return explain


@pytest.fixture
async def noting(router, counts, running, explain):
    limiter = PerFlowLimiter(iter(range(0, 10**6, 100)).__next__)
    noted = RejectionReporter(router, router, limiter, counts, explain=explain, flush_seconds=0.0)
    endpoint = CompiledEndpoint("f", Webhook.model_validate({"auth": {"github": {"secret": "k"}}}), {"k": b"sesame"})
    head = parse_head(b"POST /hook/f HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n")

    def note(body):
        seen = RequestView("POST", "http://h/hook/f", "/hook/f", "", head.headers, body)
        noted.record(Delivery(endpoint, head, PEER.address, seen), PEER, responses.UNAUTHENTICATED, WRONG, NOW)

    async def reported(count):
        router.expected = count
        running(noted.run())
        await asyncio.wait_for(router.all.wait(), PATIENCE)
        return router.rejections

    note.reported = reported
    return note


async def test_a_request_is_diagnosed_after_its_sender_was_answered(noting, diagnosed):
    noting(b"{}")
    assert diagnosed == []
    (found,) = await noting.reported(1)
    assert found.detail == "the signature does not match; because"
    assert len(diagnosed) == 1


class TestWithoutADiagnosis:
    @pytest.fixture
    def explain(self):
        def explain(*_arguments):
            raise RuntimeError("can't start new thread")

        return explain

    async def test_a_rejection_is_reported_all_the_same(self, noting):
        for _ in range(2):
            noting(b"{}")
        assert [found.detail for found in await noting.reported(2)] == ["the signature does not match"] * 2


@pytest.mark.parametrize(("count", "size"), [(2 * MAX_DIAGNOSES, 10), (6, MAX_DIAGNOSED_BYTES // 4)])
async def test_what_waits_to_be_diagnosed_is_bounded_and_all_of_it_is_reported(noting, diagnosed, count, size):
    body = b"x" * size
    for _ in range(count):
        noting(body)
    assert len(await noting.reported(count)) == count
    assert len(diagnosed) == min(MAX_DIAGNOSES, MAX_DIAGNOSED_BYTES // size)


async def test_a_flood_of_handshakes_which_anybody_may_send_hides_no_repetitions(router, counts, running):
    limiters = [PerFlowLimiter(lambda: 0.0) for _ in range(2)]
    noted = RejectionReporter(router, router, limiters[0], counts, other_limiter=limiters[1], flush_seconds=0.0)
    endpoint = CompiledEndpoint("f", Webhook.model_validate({"auth": "none"}), {})
    head = parse_head(b"OPTIONS /hook/f HTTP/1.1\r\nHost: h\r\n")
    seen = RequestView("OPTIONS", "http://h/hook/f", "/hook/f", "", head.headers, b"")
    for outcome in [RequestOutcome.HANDSHAKE] * 1000 + [RequestOutcome.DUPLICATE]:
        delivery = Delivery(endpoint, head, PEER.address, seen, outcome)
        noted.record(delivery, PEER, responses.READY, None, NOW)
    router.expected = int(FLOW_BURST) + 1
    running(noted.run())
    await asyncio.wait_for(router.all.wait(), PATIENCE)
    assert (router.rejections[-1].reason, len(router.rejections)) == ("DUPLICATE", router.expected)
