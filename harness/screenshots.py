"""Takes pictures of the console's pages, light and dark, for the docs (`make screenshots`); needs Chromium.

A local cluster runs a shop's flows beside those of `examples/`; a stand-in for the shop's other systems answers them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from flowhook.client import AsyncClient
from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec
from harness.cluster import Cluster, running_cluster

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = ROOT / "docs" / "screenshots"
SIZE: Final = {"width": 1200, "height": 800}
KEY: Final = "key-of-the-shop"
ORDERS: Final = 60
FORGED: Final = {7, 27, 47}
"""Orders with a wrong signature."""
SETTLED_SECONDS: Final = 60.0

FLOW: Final = """\
document:
  dsl: 1.0.3
  namespace: shop
  name: orders
  version: 1.0.0
  summary: Charges an order, reserves its goods and tells the warehouse.
webhook:
  auth: {hmac: {secret: shop-key, header: X-Signature, prefix: "sha256="}}
  keep_rejected_bodies: true
execution:
  search: {order: .body.order, customer: .body.customer.email}
do:
  - decide:
      switch:
        - refund: {when: .body.total < 0, then: refund}
        - sale: {then: prepare}
  - refund:
      call: http
      with: {method: post, endpoint: "URL/refunds", body: {order: "${ .body.order }"}}
      then: end
  - prepare:
      fork:
        branches:
          - reserve:
              call: http
              with: {method: post, endpoint: "URL/stock", body: {items: "${ .body.items }"}}
          - charge:
              call: http
              with: {method: post, endpoint: "URL/payments", body: {amount: "${ .body.total }"}}
  - ship:
      try:
        - tell:
            call: http
            with: {method: post, endpoint: "URL/warehouse", body: {shipped: "${ .[0].reserved }"}}
      catch:
        errors: {with: {status: 503}}
        retry: {delay: {milliseconds: 200}, limit: {attempt: {count: 2}}}
"""

RETURNS: Final = """\
document: {dsl: 1.0.3, namespace: shop, name: returns, version: 1.0.0, summary: Takes returned goods back.}
webhook:
  auth: {hmac: {secret: returns-key, header: X-Signature, prefix: "sha256="}}
  keep_rejected_bodies: true
do:
  - restock:
      for: {each: item, in: "${ .body.items }"}
      do:
        - put:
            call: http
            with: {method: post, endpoint: "URL/stock", body: {item: "${ $item.sku }"}}
  - refund:
      call: http
      with: {method: post, endpoint: "URL/refunds", body: {order: "${ $workflow.input.body.order }"}}
"""


async def main() -> int:
    """Take the pictures; returns the exit code."""
    chromium = os.environ.get("FLOWHOOK_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        print("there is no chromium: install it, or name one in FLOWHOOK_CHROMIUM", file=sys.stderr)
        return 1
    async with (
        _shop() as url,
        running_cluster("--flows", str(ROOT / "examples"), "--allow-private-addresses") as cluster,
    ):
        samples = await _story(cluster, url)
        await _take(cluster, chromium, samples)
    return 0


class _shop:  # noqa: N801 - a context manager
    """The shop's other systems: each fifth payment is refused, and the warehouse is away now and then."""

    async def __aenter__(self) -> str:
        self.asked = 0
        application = web.Application()
        application.router.add_post("/{system}", self._answer)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        host, port = self.runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        system = request.match_info["system"]
        await asyncio.sleep({"payments": 0.12, "stock": 0.05}.get(system, 0.03))
        if system == "payments" and self.asked % 5 == 0:
            return web.json_response({"type": "about:blank", "title": "card declined", "status": 402}, status=402)
        if system == "warehouse" and self.asked % 4 == 0:
            return web.json_response({"error": "busy"}, status=503)
        return web.json_response({"ok": True, "reserved": system == "stock"})


async def _story(cluster: Cluster, url: str) -> dict[str, str]:
    """Let things happen, and return the samples for parameters of paths."""
    client = cluster.client
    await client.secrets.set("shop-key", KEY.encode())
    await client.secrets.set("approver-key", b"s3cr3t")
    await client.secrets.set("messenger-url", f"{url}/messages".encode())
    await client.secrets.set("returns-key", f"{KEY}\n".encode())  # a line break too many
    await client.flows.apply([each.replace("URL", url).encode() for each in (FLOW, RETURNS)])
    async with aiohttp.ClientSession(cluster.http) as session:
        for number in range(2):
            await _send(session, "shop.returns", _order(number), KEY)
        for number in range(ORDERS):
            await _send(session, "shop.orders", _order(number), "a-wrong-key" if number in FORGED else KEY)
        for name in ("Ada", "Grace", "Edsger"):
            async with session.post("/hook/hello", json={"name": name}) as response:
                await response.read()
        async with session.post("/hook/approval", json={"order": "PO-7", "amount": 1200}) as response:
            await response.read()
    await _settled(client)
    await client.flows.pause("quote")
    job = await client.jobs.create(JobSpec(JobAction.REPLAY, ExecutionFilter("hello", (Status.COMPLETED,))))
    faulted = [
        each.id async for each in client.executions.list(flow_id="shop.orders", statuses=[Status.FAULTED], limit=1)
    ]
    forged = [each.id async for each in client.rejections.list(flow_id="shop.orders", limit=1)]
    diagnosed, mended = [each.id async for each in client.rejections.list(flow_id="shop.returns")]
    await client.secrets.set("returns-key", KEY.encode())
    accepted = await client.rejections.accept(mended)
    return {
        "flow_id": "shop.orders",
        "execution_id": faulted[0],
        "rejection_id": forged[0],
        "diagnosed_id": diagnosed,
        "mended_id": mended,
        "returned_id": accepted.execution_id,
        "job_id": job.id,
    }


def _order(number: int) -> bytes:
    return json.dumps(
        {
            "order": f"A-{1000 + number}",
            "total": -12.5 if number % 9 == 0 else 19.9 + number,
            "currency": "EUR",
            "customer": {"name": "Ada", "email": f"ada{number % 7}@example.com"},
            "items": [{"sku": "tea-green", "count": 2}, {"sku": "mug", "count": 1}],
        }
    ).encode()


async def _send(session: aiohttp.ClientSession, flow_id: str, body: bytes, key: str) -> None:
    signature = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Signature": signature, "User-Agent": "shop/7.2"}
    async with session.post(f"/hook/{flow_id}", data=body, headers=headers) as response:
        await response.read()


async def _settled(client: AsyncClient) -> None:
    """Wait until all orders have ended, and the edge has reported what it refused."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while (
            await client.executions.page(flow_id="shop.orders", statuses=[Status.PENDING, Status.RUNNING], page_size=1)
        ).items:
            await asyncio.sleep(0.2)
        for flow_id, count in (("shop.orders", len(FORGED)), ("shop.returns", 2)):
            while len((await client.rejections.page(flow_id=flow_id)).items) < count:
                await asyncio.sleep(0.2)


async def _take(cluster: Cluster, chromium: str, samples: Mapping[str, str]) -> None:
    """Visit all pages with a browser, in both themes."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - a development dependency

    PICTURES.mkdir(exist_ok=True)
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            context = await browser.new_context(base_url=cluster.admin, viewport=SIZE, color_scheme=theme)  # type: ignore[arg-type]
            page = await context.new_page()
            await page.goto("/login")
            await page.screenshot(path=PICTURES / f"login-{theme}.png")
            await page.get_by_label("Token").fill(cluster.token("admin"))
            await page.get_by_role("button", name="Log in").click()
            await page.get_by_role("heading", name="Overview").wait_for()
            for name, path in pages(samples).items():
                await page.goto(path)
                if await page.locator("[data-editor]").count():
                    await page.locator(".code-editor").wait_for()
                await page.screenshot(path=PICTURES / f"{name}-{theme}.png")
                print(f"{name}-{theme}.png")
            await page.goto(f"/executions/{samples['execution_id']}")
            await page.locator(".picture").screenshot(path=PICTURES / f"path-{theme}.png")
        await browser.close()


def pages(samples: Mapping[str, Any]) -> dict[str, str]:
    """Return the path of each picture."""
    execution = f"/executions/{samples['execution_id']}"
    flow = f"/flows/{samples['flow_id']}"
    return {
        "overview": "/",
        "flows": "/flows",
        "flow": flow,
        "apply": f"/apply?flow={samples['flow_id']}",
        "executions": f"/executions?flow={samples['flow_id']}&since=1h",
        "execution": execution,
        "timeline": f"{execution}?view=timeline",
        "data": f"{execution}?view=trace",
        "replay": f"{execution}/replay",
        "test-event": f"{flow}/test",
        "revisions": f"{flow}/revisions",
        "returned": f"/executions/{samples['returned_id']}",
        "faults": "/faults",
        "incidents": "/incidents",
        "requests": "/requests",
        "jobs": "/jobs",
        "job": f"/jobs/{samples['job_id']}",
        "new-job": f"/jobs/new?flow={samples['flow_id']}&status=faulted&action=replay",
        "rejections": "/rejections",
        "rejection": f"/rejections/{samples['rejection_id']}",
        "diagnosis": f"/rejections/{samples['diagnosed_id']}",
        "accepted": f"/rejections/{samples['mended_id']}",
        "secrets": "/secrets",
        "cluster": "/cluster",
        "audit": "/audit",
    }


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
