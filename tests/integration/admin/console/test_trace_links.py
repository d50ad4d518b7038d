"""The page of an execution links to its trace, where operators look at traces."""

from __future__ import annotations

import aiohttp
import orjson
import pytest
from pydantic import ValidationError
from support.consoles import running_console
from support.edges import running_edge

from flowhook.process.settings import AdminSettings

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: linked, version: 1.0.0}
webhook: {auth: none}
do: [{ok: {set: {ok: true}}}]
"""


@pytest.mark.parametrize(
    ("traceparent", "url", "expected"),
    [
        (PARENT, "https://traces.example/trace/{trace_id}?org=1&x=2",
         f'<a href="https://traces.example/trace/{TRACE}?org=1&amp;x=2" rel="noreferrer"><code>{TRACE}</code></a>'),
        (PARENT, "", f"<dt>Trace</dt><dd><code>{TRACE}</code></dd>"),
        ("<no-trace>", "https://traces.example/{trace_id}", "<dt>Trace</dt><dd><code>&lt;no-trace&gt;</code></dd>"),
    ],
)  # fmt: skip
async def test_an_execution_has_its_trace(router, client, traceparent, url, expected):
    await client.flows.apply([FLOW])
    async with (
        running_edge(router) as edge,
        aiohttp.ClientSession() as session,
        session.post(f"http://{edge}/hook/linked", headers={"traceparent": traceparent}) as answer,
    ):
        execution_id = (await answer.json())["id"]
    async with running_console(router, trace_url=url) as console, console.browser() as browser:
        await browser.log_in(router.token("view"))
        page = (await browser.get(f"/executions/{execution_id}")).text
        shown = orjson.loads((await browser.get(f"/api/executions/{execution_id}")).text)["request"]
    assert expected in page
    assert shown["trace"] == (TRACE if traceparent == PARENT else "")


@pytest.mark.parametrize(
    "url",
    [
        "https://traces.example/",
        "https://traces.example/{trace_id}/{trace_id}",
        "https://{trace_id}.example/",
        "https://user:pw@traces.example/{trace_id}",
        "javascript:alert('{trace_id}')",
        "//traces.example/{trace_id}",
        "https://traces.example/{trace_id}/{other}",
        'https://traces.example/{trace_id}"onclick=x',
        "https:///{trace_id}",
    ],
)
async def test_a_url_that_will_not_do_is_refused(url, tmp_path):
    with pytest.raises(ValidationError, match="once after its host"):
        AdminSettings(data_dir=tmp_path, trace_url=url)
