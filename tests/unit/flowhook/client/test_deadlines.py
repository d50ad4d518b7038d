"""Deadlines of the blocking client's calls; `grpc_testing` does not report them."""

from __future__ import annotations

import pytest

from flowhook.client.sync.transport import BlockingTransport


@pytest.fixture
def transport():
    transport = BlockingTransport("router:1", "fhk_t", None, 3600)
    yield transport
    transport.close()


def report(_request, *, timeout, metadata):
    """Stand for a method of a stub, and return the timeout that it is called with."""
    assert metadata == ()
    return timeout


def test_a_call_has_the_timeout_of_its_client(transport):
    assert 1800 < transport.call(report, None) <= 3600


@pytest.mark.parametrize("timeout", [1800, 7200])
def test_a_call_may_have_a_timeout_of_its_own(transport, timeout):
    assert timeout / 2 < transport.call(report, None, timeout=timeout) <= timeout


def test_a_timeout_of_0_is_not_the_default(transport):
    assert transport.call(report, None, timeout=0) < 0.1
