"""Keys that stand elsewhere: what senders make up costs those nothing that are known."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from support.clocks import Clock

from edge.webhook.document_fetcher import FetchError
from edge.webhook.key_cache import AGAIN_SECONDS, FETCHES_PER_MINUTE, FRESH_SECONDS, MAX_DOCUMENTS, MAX_NAMED, KeyCache
from edge.webhook.log_limiter import RateLimitedLogger
from flowhook.process import logs
from flowhook.signatures.types import KeyRequest, RequestView

SEEN = RequestView("POST", "https://h/", "/", "", [], b"")


def read(document):
    return {"": document}


class KeyPublisher:
    """Has some documents, and counts what it is asked for."""

    def __init__(self):
        self.there = {}
        self.requested = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, url, body=b""):
        self.requested.append(url)
        await self.gate.wait()
        if url == "https://broken":
            raise FetchError("no answer")
        return self.there.get(url)


class Wants:
    """A verifier that wants one document."""

    def __init__(self, url, publisher="acme"):
        self.request = KeyRequest(url, read, publisher)

    def key_request(self, request):
        return self.request


@pytest.fixture
async def publisher():
    return KeyPublisher()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def find(publisher, clock):
    """Return what is found at a URL; raises KeyError where nobody can say."""
    keys = KeyCache(publisher, RateLimitedLogger(logs.get_logger("test"), clock), clock)

    async def found(url, name="acme"):
        wants = Wants(url, name)
        return (await keys.with_keys(SEEN, [wants])).keys[wants.request]

    found.keys = keys
    return found


async def make_up(find, count):
    for number in range(count):
        with suppress(KeyError):
            assert await find(f"https://made-up/{number}") is None


async def test_made_up_names_take_no_known_ones_place(find, publisher):
    publisher.there["https://good"] = b"key"
    assert await find("https://good") == b"key"
    await make_up(find, 2 * MAX_DOCUMENTS)
    assert await find("https://good") == b"key"
    assert publisher.requested.count("https://good") == 1


async def test_made_up_names_do_not_use_up_the_pace_of_known_ones(find, publisher, clock):
    publisher.there["https://good"] = b"key"
    assert await find("https://good") == b"key"
    clock.now += FRESH_SECONDS
    await make_up(find, 2 * FETCHES_PER_MINUTE)
    publisher.there["https://good"] = b"another key"
    assert await find("https://good") == b"another key"


async def test_made_up_names_are_fetched_at_a_bounded_pace(find, publisher, clock):
    await make_up(find, 2 * MAX_NAMED)
    assert len(publisher.requested) == FETCHES_PER_MINUTE
    clock.now += 60
    await make_up(find, 2 * MAX_NAMED)
    assert len(publisher.requested) == 2 * FETCHES_PER_MINUTE


async def test_those_of_one_publisher_do_not_use_up_the_pace_of_another(find, publisher):
    await make_up(find, 2 * FETCHES_PER_MINUTE)
    publisher.there["https://good"] = b"key"
    assert await find("https://good", "other") == b"key"


@pytest.mark.parametrize("url", ["https://broken", "https://nowhere"])
async def test_what_is_unavailable_is_requested_now_and_then(find, publisher, clock, url):
    for _ in range(3):
        if url == "https://broken":
            with pytest.raises(KeyError):
                await find(url)
        else:
            assert await find(url) is None
    assert publisher.requested == [url]
    clock.now += AGAIN_SECONDS
    publisher.there[url] = b"key"
    if url == "https://nowhere":
        assert await find(url) == b"key"
        assert publisher.requested == [url, url]


async def test_those_that_want_the_same_wait_for_one_fetch(find, publisher):
    publisher.there["https://good"] = b"key"
    publisher.gate.clear()
    waiting = [asyncio.create_task(find("https://good")) for _ in range(5)]
    while not publisher.requested:
        await asyncio.sleep(0)
    publisher.gate.set()
    assert await asyncio.gather(*waiting) == [b"key"] * 5
    assert publisher.requested == ["https://good"]


async def test_keys_that_are_withdrawn_die(find, publisher, clock):
    publisher.there["https://good"] = b"key"
    assert await find("https://good") == b"key"
    publisher.there.clear()
    clock.now += FRESH_SECONDS
    assert await find("https://good") is None


async def test_what_is_retained_of_made_up_names_is_bounded(find, clock):
    for minute in range(MAX_NAMED // FETCHES_PER_MINUTE + 5):
        clock.now = 61.0 * minute
        for number in range(FETCHES_PER_MINUTE):
            await find(f"https://made-up/{minute}/{number}")
    assert len(find.keys._named) == MAX_NAMED
