"""What programs get from the JSON API and from `--json`, and what `--help` offers, is what the files beside this say.

One scenario: executions that completed, faulted, wait, are suspended, were replayed and resolved, a job, a rejection.
`FLOWHOOK_RENEW_ANSWERS=1 .venv/bin/python -m pytest tests/integration/answers` renews the files, and fails. Each change
of a word that they show is a line in CHANGELOG.md.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import typer
from aiohttp import web
from support import answer_shapes as shapes
from support.commands import flowhook
from support.consoles import running_console
from support.edges import running_edge
from support.ends import ended
from support.http_servers import http_server
from support.jobs import until
from support.routers import running_router
from support.served import running_runner

from cli import app
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec
from flowhook.model.replays import ReplayOptions
from operations.table import OPERATIONS
from runner.tracing.tracer import ExecutionTracer

pytestmark = pytest.mark.asyncio(loop_scope="session")

RENEW = "FLOWHOOK_RENEW_ANSWERS"

HEAD = "document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}\n"
OPEN = "webhook: {auth: none}\n"
FLOWS = {
    "kept": "webhook: {auth: none, callbacks: {approval: {auth: one_time_url}}}\n"
    "execution: {search: {order: .body.order}}\n"
    "do: [{keep: {set: '${ .body }'}}, {pause: {wait: {milliseconds: 1}}}]\n",
    "failing": OPEN + "do:\n  - before: {wait: {milliseconds: 1}}\n"
    "  - fail: {raise: {error: {type: 'https://example.com/no', status: 500, title: No, detail: away}}}\n",
    "retried": OPEN + "do:\n  - charge: {call: http, with: {method: post, endpoint: 'URL/charge', body: {a: 1}},"
    " metadata: {retry: {delay: PT1H, limit: {attempt: {count: 3}}}}}\n",
    "stopped": OPEN + "execution: {outage: {failures: 1, probe: PT5M}}\n"
    "do:\n  - ask: {call: http, with: {method: get, endpoint: 'URL/ask'}}\n",
    "waiting": OPEN + "do: [{later: {wait: {hours: 1}}}]\n",
    "child": "do: [{keep: {set: {a: 1}}}]\n",
    "parent": OPEN + "do: [{sub: {run: {workflow: {namespace: default, name: child, version: 1.0.0}}}}]\n",
    "guarded": "webhook: {auth: {github: {secret: shared}}, keep_rejected_bodies: true}\ndo: [{keep: {set: {a: 1}}}]\n",
    "scheduled": "schedule: {every: PT24H}\ndo: [{keep: {set: {a: 1}}}]\n",
}


ROLES = 4
"""Edge, router, runner and admin."""


class Scenario:
    """What happened, and how it is asked about."""

    def __init__(self, router, browser, ids):
        self.router = router
        self.browser = browser
        self.ids = ids

    async def ask(self, path):
        answer = await self.browser.get(f"/api{path}")
        assert answer.status == 200, (path, answer.text)
        return answer.text

    async def command(self, *arguments):
        where = {"FLOWHOOK_ROUTER": self.router.target, "FLOWHOOK_DATA_DIR": self.router.settings.data_dir}
        return await asyncio.to_thread(lambda: flowhook(*arguments, **where))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenario(tmp_path_factory):
    async def away(_request):
        return web.json_response({"why": "maintenance"}, status=503)

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        router = await enter(running_router(tmp_path_factory.mktemp("router") / "data"))
        edge = await enter(running_edge(router))
        tracer = await enter(aclosing(ExecutionTracer()))
        console = await enter(running_console(router, tracer=tracer))
        shop = await enter(http_server(away))
        await enter(running_runner(router, "runner-1"))
        client = await enter(router.client())
        browser = await enter(console.browser())
        await browser.log_in(router.token("admin"))
        async with aiohttp.ClientSession(f"http://{edge}", headers={"Content-Type": "application/json"}) as sender:
            ids = await act(client, sender, shop)
        yield Scenario(router, browser, ids)


async def act(client, sender, shop):
    """Let everything happen, and return the values of parameters of paths."""
    for name, text in FLOWS.items():
        await client.flows.apply([(HEAD.replace("NAME", name) + text.replace("URL", shop)).encode()])
    changed = HEAD.replace("NAME", "kept").replace("1.0.0", "1.0.1") + FLOWS["kept"]
    await client.flows.apply([changed.encode()])
    await client.secrets.set("unused", b"value")

    async def send(flow_id, body=b'{"order": "4711"}'):
        async with sender.post(f"/hook/{flow_id}", data=body) as answer:
            return (await answer.json()).get("id", "")

    kept, faulted, resolved, retried, waiting, suspended, parent = [
        await send(flow_id) for flow_id in ("kept", "failing", "failing", "retried", "waiting", "waiting", "parent")
    ]
    for execution_id in (kept, faulted, resolved, parent):
        await ended(client, execution_id)
    await until(lambda: client.executions.get(retried), lambda found: found.execution.retry is not None)
    for execution_id in (waiting, suspended):
        await until(lambda one=execution_id: client.executions.get(one), lambda found: found.history)
    await client.executions.suspend(suspended)
    await client.executions.resolve(resolved, "known")
    replay = await client.executions.replay(faulted, ReplayOptions(from_task="/do/1/fail"))
    await ended(client, replay.id)
    await send("guarded")
    [rejection] = (await until(lambda: client.rejections.page(flow_id="guarded"), lambda page: page.items)).items
    stopped = await send("stopped")
    await until(lambda: client.executions.get(stopped), lambda found: found.execution.destinations)
    [incident] = (await until(client.incidents.page, lambda page: page.items)).items
    done = ExecutionFilter(flow_id="kept")
    jobs = [
        await client.jobs.create(JobSpec(JobAction.REPLAY, done, reason="again")),
        await client.jobs.create(JobSpec(JobAction.RESOLVE, done)),
    ]
    for job in jobs:
        await until(lambda one=job: client.jobs.get(one.id), lambda found: found.state.ended)
    page = await client.executions.page(flow_id="kept")
    for execution in page.items:
        await ended(client, execution.id)
    await until(
        client.cluster.processes,
        lambda found: len({process.role for process in found}) == ROLES and all(process.ready for process in found),
    )
    executions = (kept, faulted, resolved, retried, waiting, suspended, parent, replay.id)
    return {
        "flow_id": tuple(FLOWS),
        "execution_id": executions,
        "incident_id": (incident.id,),
        "job_id": tuple(job.id for job in jobs),
        "rejection_id": (rejection.id,),
        "name": ("unused",),
        "index": ("0",),
    }


QUERIES = {
    "diff_executions": "?with={execution_id}",
    "preview_job": "?flow=failing",
    "prepare_test_event": "?execution={execution_id}",
    "list_executions": "?jq=true",
}
"""What has to be, or may be, asked besides the path."""

ASKING = {"diff_executions", "preview_job"}
"""Operations that have to be asked something."""

ENDED = {"preview_replay", "trace_execution"}
"""Operations on executions that ended."""


def compare(name, found):
    agreed = Path(__file__).with_name(name)
    text = "".join(f"{line}\n" for line in found)
    if os.environ.get(RENEW) == "1":
        agreed.write_text(text, encoding="utf-8")
        pytest.fail(f"{name} is renewed; read its diff, then run the tests without {RENEW}", pytrace=False)
    lines = agreed.read_text(encoding="utf-8").splitlines() if agreed.exists() else []
    if changes := list(difflib.unified_diff(lines, text.splitlines(), name, "now", "", "", 2, "")):
        pytest.fail(
            f"the answers are not those of {name}. If that is meant, say so in CHANGELOG.md and renew the file by"
            f" {RENEW}=1\n\n" + "\n".join(changes),
            pytrace=False,
        )


def steady(answer):
    """Remove the duration from what two executions differ in: it is there unless they took the same milliseconds."""
    if "diff" in answer:
        differences = answer["diff"]["summary"]
        differences[:] = [each for each in differences if each["name"] != "duration"]
    return answer


async def test_the_api_answers_as_agreed(scenario):
    found = []
    for operation in OPERATIONS:
        if operation.writes or operation.result is bytes:
            continue
        found.append(f"GET {operation.path}")
        found += shapes.lines([steady(json.loads(await scenario.ask(path))) for path in paths(operation, scenario.ids)])
    compare("api.txt", found)


def paths(operation, ids):
    """Yield the paths of an operation, for each value of the parameter that it has; then those with a query."""
    names = operation.path_parameters
    values = ids[names[0]] if names else ("",)
    if operation.name in ENDED:
        values = values[:3]
    query = QUERIES.get(operation.name, "").replace("{execution_id}", ids["execution_id"][0])
    for value in values:
        path = operation.path.replace(f"{{{names[0]}}}", value) if names else operation.path
        if operation.name not in ASKING:
            yield path
        if query:
            yield path + query


def commands(ids):
    """Yield the commands that read, under the name that they have in the file."""
    for execution_id in ids["execution_id"]:
        yield "executions get ID", ("executions", "get", execution_id)
    for flow_id in ids["flow_id"]:
        yield "flows get ID", ("flows", "get", flow_id)
    for job_id in ids["job_id"]:
        yield "jobs get ID", ("jobs", "get", job_id)
        yield "jobs get ID --items", ("jobs", "get", job_id, "--items")
    kept, faulted = ids["execution_id"][:2]
    for line in (
        "executions list",
        "executions list --jq true",
        "overview",
        "flows list",
        "flows revisions kept",
        "flows diff kept",
        "flows graph kept",
        "secrets list",
        "jobs list",
        "executions replay --flow failing --dry-run",
        "executions cancel --flow waiting --dry-run",
        "incidents list",
        f"incidents get {ids['incident_id'][0]}",
        "requests",
        "rejections list",
        f"rejections show {ids['rejection_id'][0]}",
        "audit list",
        "cluster status",
        "tokens list",
        "components list",
        "components show http",
        f"executions replay {faulted} --dry-run",
        f"executions wait {kept}",
        f"diff {kept} {faulted}",
    ):
        yield " ".join("ID" if "_" in word else word for word in line.split()), tuple(line.split())


async def test_commands_print_as_json_what_is_agreed(scenario):
    printed = {}
    for name, arguments in commands(scenario.ids):
        result = await scenario.command(*arguments, "--json")
        assert result.code in (0, 1), (name, result)
        assert result.rows, (name, result)
        printed.setdefault(name, []).extend(map(steady, result.rows))
    found = [line for name, rows in printed.items() for line in (f"flowhook {name} --json", *shapes.lines(rows))]
    compare("commands.txt", found)


async def test_the_description_of_the_api_is_the_agreed_one(scenario):
    compare("openapi.txt", shapes.schema_lines(json.loads(await scenario.ask("/openapi.json"))))


async def test_commands_have_the_agreed_options():
    compare("help.txt", shapes.help_lines(typer.main.get_command(app.create())))


READS = {
    "executions list": ("/executions", "executions[]."),
    "executions get ID": ("/executions/{execution_id}", ""),
    "executions wait ID": ("/executions/{execution_id}", ""),
    "executions replay ID --dry-run": ("/executions/{execution_id}/replay", ""),
    "executions replay --flow failing --dry-run": ("/jobs/new", ""),
    "diff ID ID": ("/executions/{execution_id}/diff", ""),
    "overview": ("/overview", ""),
    "flows list": ("/flows", "flows[]."),
    "flows get ID": ("/flows/{flow_id}", ""),
    "flows revisions kept": ("/flows/{flow_id}/revisions", "revisions[]."),
    "flows diff kept": ("/flows/{flow_id}/diff", ""),
    "secrets list": ("/secrets", "secrets[]."),
    "jobs list": ("/jobs", "jobs[]."),
    "jobs get ID": ("/jobs/{job_id}", ""),
    "jobs get ID --items": ("/jobs/{job_id}/items", "items[]."),
    "incidents list": ("/incidents", "incidents[]."),
    "incidents get ID": ("/incidents/{incident_id}", ""),
    "requests": ("/requests", "requests[]."),
    "rejections list": ("/rejections", "rejections[]."),
    "rejections show ID": ("/rejections/{rejection_id}", ""),
    "audit list": ("/audit", "entries[]."),
    "cluster status": ("/cluster/shards", "shards[]."),
}
"""Commands that print the result of an operation: its path in the API, and where in it a line of theirs is."""


def answers_of(name):
    """Return the keys of each answer in a file, by the answer's name."""
    found, answer = {}, ""
    for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            found.setdefault(answer, set()).add(line.strip().partition(":")[0])
        else:
            answer = line.removeprefix("GET ").removeprefix("flowhook ").removesuffix(" --json")
    return found


@pytest.mark.parametrize("command", READS)
async def test_a_command_prints_the_keys_of_the_api(command):
    path, prefix = READS[command]
    told = {key.removeprefix(prefix) for key in answers_of("api.txt")[path] if key.startswith(prefix)} - {"(itself)"}
    printed = answers_of("commands.txt")[command] - {"(itself)"}
    first = {key.split(".")[0].removesuffix("[]") for key in told}
    assert {key.split(".")[0].removesuffix("[]") for key in printed} == first
    # the API leaves out a body unless it is asked for it; which of two executions has an error depends on their order
    either = {key.replace("second.", "first.") for key in told}
    assert {key.replace("second.", "first.") for key in printed if not key.startswith("request.body")} <= either
