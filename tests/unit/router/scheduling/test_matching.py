"""What events are told apart by."""

from __future__ import annotations

import orjson
import pytest
from support.cpu import cpu_seconds

from flowhook.model import Correlation, EventFilter
from router.scheduling.matching import MAX_COMPARED_BYTES, EventContent, InboundEvent, filter_fingerprint

PATH = ".data.order"


def values(order):
    event = {"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": {"order": order}}
    incoming = InboundEvent("f", callback=False, type="t", content=EventContent(orjson.dumps(event)))
    shape, _ = filter_fingerprint(EventFilter(callback=False, type="t", correlations=(Correlation(PATH, b"1"),)))
    return incoming.values(shape)


def test_equal_values_have_equal_fingerprints():
    assert values(1) == values(1.0) != values("1")
    assert values({"a": 1, "b": 2}) == values({"b": 2, "a": 1})
    assert values("x" * (MAX_COMPARED_BYTES - 2)) is not None


@pytest.mark.parametrize("order", ["x" * MAX_COMPARED_BYTES, [[]] * 300_000, {str(n): n for n in range(60_000)}])
def test_a_value_that_takes_long_to_compare_passes_no_filter(order):
    event = {"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": {"order": order}}
    incoming = InboundEvent("f", callback=False, type="t", content=EventContent(orjson.dumps(event)))
    shape, _ = filter_fingerprint(EventFilter(callback=False, type="t", correlations=(Correlation(PATH, b"1"),)))
    incoming.content._parsed = event  # parsed it was before
    assert incoming.values(shape) is None
    assert cpu_seconds(lambda: incoming.values(shape), 0.05) < 0.05
