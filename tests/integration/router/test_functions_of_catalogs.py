"""A flow that is applied contains the functions of catalogs that it calls; the router fetches none."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from flowhook.document.catalogs import append
from flowhook.errors import InvalidFlowError

FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}
use: {catalogs: {shop: {endpoint: 'https://shop.example.org'}}}
do:
  - log: {call: 'log:1.0.0@shop', with: {message: paid}}
"""
URI = "https://shop.example.org/functions/log/1.0.0/function.yaml"


def with_function(text):
    return append(FLOW, {"log:1.0.0@shop": (URI, text)})


async def test_a_revision_has_the_function_and_another_function_is_another_revision(client):
    changes = [
        (await client.flows.apply([with_function(text)]))[0] for text in ("set: {a: 1}", "set: {a: 1}", "set: {a: 2}")
    ]
    assert [(each.change, each.flow.revision) for each in changes] == [("created", 1), ("unchanged", 1), ("updated", 2)]
    first = orjson.loads((await client.flows.get("pay", revision=1)).definition)
    assert first["use"]["functions"]["log:1.0.0@shop"] == {
        "set": {"a": 1},
        "metadata": {"catalog": {"uri": URI, "sha256": hashlib.sha256(b"set: {a: 1}").hexdigest()}},
    }


async def test_a_flow_without_its_function_is_refused(client):
    with pytest.raises(InvalidFlowError) as refused:
        await client.flows.apply([FLOW])
    (fault,) = refused.value.faults
    assert (fault.line, fault.key, fault.code) == (5, "do[0].log.call", "FUNCTION_UNKNOWN")
    assert fault.cause == (
        "'log:1.0.0@shop' is not part of the flow: `flowhook apply` fetches functions of catalogs, and adds them"
    )
