"""The flows a newcomer starts from, each with what its vendor sends, against a stand-in for the service it calls."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shlex
import shutil
import sys
import uuid
from pathlib import Path

import pytest
import pytest_asyncio
from support.systems import EVENT_ID, until

from flowhook.model import Status

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))

TWITTER = {
    "api_key": "consumer-key",
    "api_key_secret": "consumer-secret",
    "access_token": "access-token",
    "access_token_secret": "access-secret",
}

# the shape of https://docs.github.com/en/webhooks/webhook-events-and-payloads#release, shortened
RELEASE = {
    "action": "published",
    "release": {
        "url": "https://api.github.com/repos/octo-org/blog/releases/1",
        "html_url": "https://github.com/octo-org/blog/releases/tag/v1.0",
        "id": 1,
        "tag_name": "v1.0",
        "target_commitish": "main",
        "name": "First post — “hello”",
        "draft": False,
        "prerelease": False,
        "created_at": "2026-03-01T09:00:00Z",
        "published_at": "2026-03-01T09:30:00Z",
        "author": {"login": "octocat", "id": 1, "type": "User"},
        "assets": [],
        "body": "Our *first* post.",
    },
    "repository": {"id": 2, "name": "blog", "full_name": "octo-org/blog", "private": False},
    "sender": {"login": "octocat", "id": 1, "type": "User"},
}

TRANSFER = {
    "event": "transfer.booked",
    "account": "DE02120300000000202051",
    "amount": {"value": "250.00", "currency": "EUR"},
    "counterparty": "Corner Bakery",
    "booked_at": "2026-03-01T09:30:00Z",
}


TEA = {"sku": "tea", "quantity": 3}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def examples(system):
    # nobody waits five minutes here
    await system.apply(*(path.read_bytes().replace(b"PT5M", b"PT1S") for path in sorted(EXAMPLES.glob("*.yaml"))))
    await system.secrets(
        blog_webhook="It's a Secret to Everybody",
        twitter=json.dumps(TWITTER),
        bank_password="correct-horse",
        messenger_url=f"{system.outside.url}/services/T000/B000/XXXX",
        partner_key="s3cr3t",
        approver_key="s3cr3t",
        fulfilment_url=f"{system.outside.url}/orders",
        review_url=f"{system.outside.url}/cases",
    )


async def github_sends(system, payload, *, event="release", delivery=None, secret="It's a Secret to Everybody"):
    """Send as GitHub does: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""
    body = json.dumps(payload).encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return await system.request(
        "POST",
        "/hook/blog-to-tweet",
        data=body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
            "X-Hub-Signature-256": f"sha256={digest}",
        },
    )


async def bank_sends(system, payload, *, password="correct-horse"):
    credentials = base64.b64encode(f"bank:{password}".encode()).decode()
    return await system.request(
        "POST", "/hook/bank-notification", json=payload, headers={"Authorization": f"Basic {credentials}"}
    )


async def partner_sends(system, order, *, price, country="NL"):
    payload = {
        "order": order,
        "partner": "acme",
        "country": country,
        "lines": [TEA | {"price": price}],
    }
    return await system.request("POST", "/hook/partner-orders", json=payload, headers={"X-Api-Key": "s3cr3t"})


async def newest(system, flow):
    return (await system.executions(flow, limit=1))[0].id


async def test_hello_greets(system):
    answer = await system.send("hello", {"name": "Ada"})
    assert (answer.status, list(answer.json)) == (202, ["id"])
    output = await system.completed(answer.id)
    assert output["greeting"] == "Hello, Ada!"
    anonymous = await system.completed((await system.send("hello", {})).id)
    assert anonymous["greeting"] == "Hello, whoever you are!"


async def test_a_release_on_github_is_tweeted(system):
    answer = await github_sends(system, RELEASE)
    assert (answer.status, answer.json) == (200, {"ok": True})
    execution_id = await newest(system, "blog-to-tweet")
    output = await system.completed(execution_id)
    assert output == {"id": "1346889436626259968", "text": "as posted"}

    [post] = [request for request in system.received("/2/tweets") if execution_id in request.key]
    assert post.method == "POST"
    assert json.loads(post.body) == {
        "text": "New on the blog: First post — “hello” https://github.com/octo-org/blog/releases/tag/v1.0"
    }
    assert post.headers["Content-Type"] == "application/json"
    scheme, _, parameters = post.headers["Authorization"].partition(" ")
    oauth = dict(re.findall(r'(oauth_\w+)="([^"]*)"', parameters))
    assert scheme == "OAuth"
    assert oauth.keys() == {
        "oauth_consumer_key",
        "oauth_nonce",
        "oauth_signature",
        "oauth_signature_method",
        "oauth_timestamp",
        "oauth_token",
        "oauth_version",
    }
    assert oauth["oauth_consumer_key"] == TWITTER["api_key"]
    assert oauth["oauth_token"] == TWITTER["access_token"]
    assert oauth["oauth_signature_method"] == "HMAC-SHA1"


@pytest.mark.parametrize(
    ("event", "action"), [("release", "deleted"), ("release", "created"), ("ping", "published"), ("star", "created")]
)
async def test_other_events_of_github_are_answered_and_not_tweeted(system, event, action):
    assert (await github_sends(system, RELEASE | {"action": action}, event=event)).status == 200
    execution_id = await newest(system, "blog-to-tweet")
    await system.completed(execution_id)
    assert not [request for request in system.received("/2/tweets") if execution_id in request.key]


async def test_a_delivery_that_github_repeats_is_tweeted_once(system):
    before = len(await system.executions("blog-to-tweet"))
    answers = [await github_sends(system, RELEASE, delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    found = await system.executions("blog-to-tweet")
    assert len(found) == before + 1
    await system.completed(found[0].id)
    assert len([request for request in system.received("/2/tweets") if found[0].id in request.key]) == 1


async def test_a_release_that_somebody_else_signed_is_refused(system):
    before = await system.executions("blog-to-tweet")
    assert (await github_sends(system, RELEASE, secret="guessed")).status == 401
    assert await system.executions("blog-to-tweet") == before


async def test_the_banks_customer_gets_a_message(system):
    answer = await bank_sends(system, TRANSFER)
    execution_id = answer.json["reference"]
    assert answer.status == 200
    assert answer.json == {"received": True, "reference": execution_id}
    assert answer.headers["X-Bank-Protocol"] == "1"
    assert EVENT_ID.fullmatch(execution_id)
    assert (await system.completed(execution_id))["statusCode"] == 200

    [message] = [request for request in system.received("/services/T000/B000/XXXX") if execution_id in request.key]
    assert json.loads(message.body) == {"text": "Account …2051: 250.00 EUR from Corner Bakery"}
    stored = dict((await system.client.executions.get(execution_id)).event.headers)
    assert "content-type" in stored
    assert "authorization" not in stored


async def test_the_bank_may_send_the_same_transfer_twice_because_it_turned_recognition_off(system):
    first, second = [(await bank_sends(system, TRANSFER)).json["reference"] for _ in range(2)]
    assert first != second


async def test_the_bank_learns_which_credentials_are_required(system):
    refused = await bank_sends(system, TRANSFER, password="wrong-horse")
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(
    ("order", "price", "country", "decision", "calls"),
    [
        (
            "S-1",
            4.5,
            "NL",
            "fulfilled",
            [("/orders", {"order": "S-1", "country": "NL", "lines": [TEA | {"price": 4.5}]})],
        ),
        ("L-1", 400, "DE", "review", [("/cases", {"order": "L-1", "partner": "acme", "total": 1200})]),
        ("F-1", 400, "US", "refused", []),
    ],
)
async def test_an_order_takes_its_branch(system, order, price, country, decision, calls):  # noqa: PLR0917 - a table
    answer = await partner_sends(system, order, price=price, country=country)
    assert answer.status == 202
    assert (await system.completed(answer.id))["decision"] == decision
    received = [request for request in system.outside.received if answer.id in request.key]
    assert [(request.path, json.loads(request.body)) for request in received] == calls


async def test_an_order_sent_again_is_the_same_order(system):
    first = await partner_sends(system, "TWICE-1", price=1)
    second = await partner_sends(system, "TWICE-1", price=1)
    assert (second.status, second.id) == (202, first.id)
    await system.completed(first.id)
    assert len([request for request in system.received("/orders") if first.id in request.key]) == 1


async def test_an_order_without_lines_faults_at_the_schema(system):
    answer = await system.request(
        "POST", "/hook/partner-orders", json={"order": "X", "country": "NL"}, headers={"X-Api-Key": "s3cr3t"}
    )
    assert (await system.faulted(answer.id)).type.endswith("/errors/validation")


async def test_a_chat_gets_the_fault_of_any_flow(system):
    answer = await system.send("hello", ["Ada"])
    error = await system.faulted(answer.id)

    def reported():
        told = [json.loads(each.body)["text"] for each in system.received("/services/T000/B000/XXXX")]
        return [text for text in told if text.startswith("hello faulted ")]

    [message, *_] = await until(reported, "the chat is told")
    assert re.fullmatch(
        rf"hello faulted (once|\d+ times) at /do/0/greet: {re.escape(error.detail)} \(evt_\w+\)", message
    )


async def test_an_alert_waits_for_its_secret_instead_of_faulting(system):
    brief = (EXAMPLES / "alerts.yaml").read_text().replace("name: alerts", "name: alerts-late").replace("PT5M", "PT1S")
    await system.apply(brief.replace("messenger-url", "messenger-late").encode())
    answer = await system.send("hello", ["Ada"])
    await system.faulted(answer.id)

    async def started():
        return await system.executions("alerts-late")

    [*_, execution] = await until(started, "the alert is there")
    await system.client.secrets.set("messenger-late", f"{system.outside.url}/services/late".encode())
    await system.completed(execution.id)
    assert any(answer.id in request.body.decode() for request in system.received("/services/late"))
    await system.client.flows.delete("alerts-late")


async def test_a_quote_is_the_answer(system):
    answer = await system.send("quote", {"lines": [{"sku": "tea", "quantity": 2}, {"sku": "coffee", "quantity": 1}]})
    assert (answer.status, answer.json) == (200, {"total": 16.2, "currency": "EUR"})
    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("application/json", "no-store")


async def test_what_the_shop_does_not_have_is_refused_by_the_flow(system):
    answer = await system.send("quote", {"lines": [{"sku": "tea", "quantity": 2}, {"sku": "gold", "quantity": 1}]})
    assert (answer.status, answer.json) == (422, {"error": "unknown article", "articles": ["gold"]})


async def test_a_quote_that_faults_is_answered_as_the_flow_says(system):
    answer = await system.send("quote", {"lines": "none"})
    execution_id = await newest(system, "quote")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json == {"error": "there is no quote now", "id": execution_id}
    await system.faulted(execution_id)


async def order_that_waits(system, order, flow="approval"):
    """Order something that somebody has to approve; return the execution's ID and the URL of the answer."""
    answer = await system.send(flow, {"order": order, "amount": 1200})
    assert (answer.status, answer.json["order"]) == (202, order)
    return await newest(system, flow), answer.json["decide_at"]


async def test_an_order_is_approved_once_at_the_url_that_is_passed_on(system):
    execution_id, url = await order_that_waits(system, "PO-1")
    decision = {"approved": True, "by": "Ann"}
    answer = await system.request("POST", url.removeprefix(system.cluster.http), json=decision)
    assert (answer.status, answer.json) == (200, {"received": True})
    assert await system.completed(execution_id) == {"order": "PO-1", "approved": True, "by": "Ann"}
    assert (await system.request("POST", url.removeprefix(system.cluster.http), json=decision)).status == 410


async def test_a_person_decides_by_a_link_and_whoever_only_opens_it_does_not(system):
    answer = await system.send("approval", {"order": "PO-5", "amount": 1200})
    execution_id, link = await newest(system, "approval"), answer.json["page"].removeprefix(system.cluster.http)
    for _ in range(2):  # a mail scanner, then the person
        page = await system.request("GET", link)
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (await system.client.executions.get(execution_id)).execution.status is Status.WAITING
    [action] = re.findall(r'action="([^"]+)"', page.body.decode())
    form = {"by": "Ann", "approved": "true"}
    assert (await system.request("POST", action, data=form)).status == 200
    assert await system.completed(execution_id) == {"order": "PO-5", "approved": True, "by": "Ann"}
    assert (await system.request("POST", action, data=form)).status == 410


@pytest.mark.parametrize("link", ["", "?decide=", "?decide=%22%3E%3Cscript%3E", "?decide=a&decide=b"])
async def test_a_link_with_anything_but_a_token_shows_no_page(system, link):
    answer = await system.request("GET", f"/hook/approval{link}")
    assert (answer.status, answer.body) == (404, b"this link is incomplete")


async def test_a_system_with_a_key_says_which_order_it_decides_about(system):
    first, _ = await order_that_waits(system, "PO-2")
    second, _ = await order_that_waits(system, "PO-3")
    decision = {"order": "PO-2", "approved": False, "by": "budget"}
    assert (await system.send("approval/decision", decision)).status == 401
    assert (await system.send("approval/decision", decision, headers={"X-Api-Key": "s3cr3t"})).status == 200
    assert await system.completed(first) == {"order": "PO-2", "approved": False, "by": "budget"}
    assert not (await system.client.executions.get(second)).execution.status.ended


async def test_an_order_that_nobody_decides_about_is_refused_in_the_end(system):
    brief = (EXAMPLES / "approval.yaml").read_text().replace("name: approval", "name: approval-brief")
    await system.apply(brief.replace("{days: 3}", "{milliseconds: 200}").encode())
    execution_id, url = await order_that_waits(system, "PO-4", "approval-brief")
    assert await system.completed(execution_id) == {"order": "PO-4", "approved": False, "by": "nobody"}
    late = await system.request("POST", url.removeprefix(system.cluster.http), json={"approved": True})
    assert late.status == 410


def commands_in(name):
    """Return the commands that an example's first comment shows, each as one string for the shell."""
    comment = (EXAMPLES / f"{name}.yaml").read_text().partition("document:")[0]
    commands = []
    for line in (line[1:].strip() for line in comment.splitlines()):
        if commands and unfinished(commands[-1]):
            commands[-1] += "\n" + line
        elif line.startswith((".venv/bin/flowhook", "curl")):
            commands.append(line)
    return commands


def unfinished(command):
    try:
        shlex.split(command)
    except ValueError:  # a quotation or an escape that goes on in the next line
        return True
    return command.endswith("\\")


def here(system, command):
    """Return a command with addresses that belong to others replaced by those of this test."""
    python = f"{shlex.quote(sys.executable)} -P -m cli"
    command = command.replace("http://127.0.0.1:8080", system.cluster.http).replace(".venv/bin/flowhook", python)
    return re.sub(r"https://\w+\.example\.com/(?=services|orders|cases)", f"{system.outside.url}/", command)


@pytest.mark.parametrize("name", NAMES)
async def test_the_commands_in_its_comment_work_as_printed(system, name):
    commands = commands_in(name)
    assert len(commands) >= 2
    before = len(await system.executions(name))
    for command in commands:
        if command.startswith("curl") and shutil.which("curl") is None:
            pytest.skip("no curl here")
        result = await system.shell(here(system, command), cwd=EXAMPLES.parent, stdin="It's a Secret to Everybody\n")
        assert result.code == 0, (command, result)
        if command.startswith("curl"):
            assert re.match(r"HTTP/1.1 20[02] ", result.out), (command, result)
    await until(lambda: ran_more(system, name, before), "it runs")
    found = await system.executions(name)
    new = found[: len(found) - before]
    assert len(new) == 1 or name == "alerts"  # which other tests' faults may start as well
    for execution in new:
        await system.completed(execution.id)


async def ran_more(system, name, before):
    return len(await system.executions(name)) > before
