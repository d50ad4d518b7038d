"""Measures durable acceptance of other bodies than JSON; the edge parses them, and they are stored unchanged."""

from __future__ import annotations

import secrets
from typing import Any, Final
from urllib.parse import urlencode

from bench.load import Request, saturate
from bench.log import log
from harness.cluster import Cluster

FILE_BYTES: Final = 100_000
FLOW: Final = (
    b"document: {dsl: 1.0.3, namespace: bench, name: bodies, version: 1.0.0}\n"
    b"webhook: {auth: none}\ndo:\n  - keep: {set: {a: 1}}\n"
)
BOUNDARY: Final = "bench-0123456789"


def _form() -> tuple[str, bytes]:
    fields = [("order[id]", "42"), *((f"order[items][{number}][name]", "x" * 60) for number in range(8))]
    return "application/x-www-form-urlencoded", urlencode(fields).encode()


def _xml() -> tuple[str, bytes]:
    items = "".join(f'<item number="{number}"><name>{"x" * 60}</name></item>' for number in range(8))
    return "application/xml", f'<order id="42" xmlns="urn:bench">{items}</order>'.encode()


def _multipart() -> tuple[str, bytes]:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="order"\r\n\r\n42\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    content = secrets.token_bytes(FILE_BYTES)
    return f"multipart/form-data; boundary={BOUNDARY}", head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


async def bench(cluster: Cluster, seconds: float) -> dict[str, Any]:
    """Measure each kind for `seconds`, with the flow paused, and return the figures.

    Raises:
        RuntimeError: a request was not answered with 2xx.
    """
    await cluster.client.flows.apply([FLOW])
    await cluster.client.flows.pause("bench.bodies")
    figures: dict[str, Any] = {}
    for name, (media_type, body) in {"form": _form(), "xml": _xml(), "multipart": _multipart()}.items():
        request = Request(f"{cluster.http}/hook/bench.bodies", {"Content-Type": media_type}, body)
        result = await saturate(request, seconds)
        if result.failed:
            raise RuntimeError(f"{name}: {result.failed} of {result.requests} requests were not answered with 2xx")
        log(f"acceptance of {name}, {len(body):,} bytes: {result.per_second:,.0f}/s")
        figures |= {f"{name}_rps": round(result.per_second), f"{name}_bytes": len(body)}
    return figures
