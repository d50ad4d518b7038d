"""The commands of docs/commands.md and docs/operations.md run in their order, and print what the pages say.

They run in a folder with the examples, on `flowhook dev`. What a command needs that the page does not show is made
before it. A block that is not executed has its reason before it: `<!-- not executed: REASON -->`. What a page leaves
out, `…`, may be anything.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shlex
import shutil
import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from unittest.mock import patch

from support import pages, transcripts
from support.commands import Up, flowhook, send_event
from support.patience import PATIENCE, wait_until

PAGES = ("commands.md", "operations.md")
NOT_EXECUTED = re.compile(r"<!-- not executed: [^>]{10,} -->\n+$")
FLOWHOOK = ".venv/bin/flowhook "
HEAD = "document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}\n"
SHIP = """\
webhook: {auth: none}
do:
  - ship:
      call: http
      with: {method: post, endpoint: "https://api.example.com/shipments", body: "${ .body }"}
"""
BOOK = """\
webhook: {auth: none}
do:
  - find: {set: {account: "${ .body.account }"}}
  - book:
      if: .account == null
      raise: {error: {type: https://example.com/errors/account, status: 500, title: no such account}}
"""
RETRIED = """\
webhook: {auth: none}
execution: {retry: {delay: PT1H, limit: {attempt: {count: 3}}}}
do:
  - call: {call: http, with: {method: get, endpoint: "http://127.0.0.1:1/"}}
"""


class Place:
    """The folder and the cluster; `before` makes what a command needs, by the beginning of the command."""

    def __init__(self, folder, cluster, shell):
        self.folder, self.cluster, self.shell = folder, cluster, shell
        self.before = {
            "exec runaway.yaml": lambda: self.write("runaway", "do: [{spin: {set: '${ def f: f; f }'}}]\n"),
            "test": self.tests,
            "test orders.yaml": lambda: self.order_test([]),
            "check bad.yaml": self.faulty,
            "trigger stripe": self.payments,
            "diff": self.two_executions,
            "verify": self.request,
            "flows revisions": self.revision,
            "secrets set bank-pasword": lambda: (self.folder / "password.txt").write_text("s3cret"),
            "secrets list": lambda: self.secrets("bank-password", "partner-key"),
            "executions replay --flow": self.faulted,
            "executions cancel": lambda: self.execution("evt_01m87470j0fh3b0kte4gpye5c6", self.waiting()),
            "executions suspend": lambda: self.execution("evt_01m87470j0fh3b0kte4gpye5c6", self.waiting()),
            "executions retry-now": lambda: self.execution("evt_01m87470j0fh3b0kte4gpye5c6", self.retrying()),
            "executions delete": self.replayed,
            "requests": self.requests,
        }

    def write(self, name, text):
        (self.folder / f"{name}.yaml").write_text(HEAD.replace("NAME", name) + text)

    def run(self, *arguments):
        done = self.cluster.run(*arguments)
        assert done.code == 0, done
        return done

    def apply(self, name, text):
        self.write(name, text)
        self.run("apply", "-f", self.folder / f"{name}.yaml")

    def secrets(self, *names):
        for name in names:
            self.run("secrets", "set", name, "--value", "s3cret")

    def execution(self, shown, meant):
        self.shell.stands_for(shown, meant)

    def tests(self):
        (self.folder / "runaway.yaml").unlink()
        flow = self.folder / "payments.yaml"
        flow.write_text(
            flow.read_text().replace("${ .body.data.object.amount }", "${ .body.data.object.amount / 100 }")
        )
        self.write("orders", SHIP)
        (self.folder / "tests" / "orders").mkdir()
        self.order_test([{"task": "ship"}])

    def order_test(self, calls):
        test = self.folder / "tests" / "orders" / "order-created.json"
        test.write_text(json.dumps({"body": {}, "calls": calls, "output": None}))

    def faulty(self):
        self.write("bad", "webhook:\n  auth: {gitub: {secret: a}}\ndo:\n  - pause:\n      wait: soon\n")
        self.write("greet", "do:\n  - greet:\n      set: {text: 'Hello ${ .body.name }'}\n")

    def payments(self):
        self.run("apply", "-f", self.folder / "payments.yaml")
        self.secrets("payments-secret")

    def two_executions(self):
        self.apply("book", BOOK)
        ids = [
            send_event(self.cluster, "book", body) for body in ('{"account": 1, "amount": 19.90}', '{"amount": 19.9}')
        ]
        for execution_id in ids:
            self.cluster.run("executions", "wait", execution_id)
        for shown, meant in zip(("evt_01m8746w7wemm95kbphkypt3c7", "evt_01m8747d2tft38n3aep0xq5rze"), ids, strict=True):
            self.execution(shown, meant)

    def request(self):
        body = {"action": "opened", "number": 7}
        (self.folder / "secret.txt").write_text("s3cret")
        signature = hmac.new(b"s3cret", json.dumps(body, separators=(",", ":")).encode(), hashlib.sha256).hexdigest()
        (self.folder / "request.http").write_text(
            f"POST /hook/shop HTTP/1.1\nX-Hub-Signature-256: sha256={signature}\nContent-Type: application/json\n\n"
            f"{json.dumps(body)}"
        )

    def revision(self):
        flow = self.folder / "examples" / "hello.yaml"
        flow.write_text(flow.read_text().replace("Hello", "Hi"))
        self.run("apply", "-f", flow)
        flow.write_text(flow.read_text().replace("Hi", "Hello"))

    def faulted(self):
        self.run("apply", "-f", self.folder / "examples" / "hello.yaml")
        self.secrets("partner-key", "fulfilment-url")
        order = {"order": "4712", "country": "NL", "lines": [{"quantity": 100, "price": 12}]}
        sent = send_event(self.cluster, "partner-orders", json.dumps(order))
        self.cluster.run("executions", "wait", sent)
        self.execution("evt_01m8746vn1ftdsgtq0g16mgym6", hello := send_event(self.cluster, "hello", '{"name": "Ada"}'))
        self.run("executions", "wait", hello)

    def waiting(self):
        return self.until("approval", "waiting")

    def retrying(self):
        self.apply("retried", RETRIED)
        return self.until("retried", "waiting")

    def until(self, flow, status):
        sent = self.cluster.run("send", flow, "--data", '{"order": "PO-7"}', "--json").rows[0]
        found = []

        def is_there():
            found[:] = self.cluster.run("executions", "list", "--flow", flow, "--status", status, "--json").rows
            return bool(found)

        wait_until(is_there, f"an execution of {flow} is {status}: {sent}")
        return found[0]["id"]

    def replayed(self):
        self.execution("evt_01m8746vn1ftdsgtq0g16mgym6", sent := send_event(self.cluster, "hello", "{}"))
        self.run("executions", "wait", sent)
        replay = self.run("executions", "replay", sent, "--json").rows[0]
        self.run("executions", "wait", replay["id"])

    def requests(self):
        self.secrets("blog-webhook")
        address = self.cluster.where["http_url"].removeprefix("http://")
        with closing(HTTPConnection(address)) as connection:
            connection.request("POST", "/hook/blog-to-tweet", b"{}", {"X-Hub-Signature-256": f"sha256={64 * '0'}"})
            assert connection.getresponse().status == 401
        for _ in range(2):
            self.run("send", "blog-to-tweet", "--data", "{}", "--header", "X-GitHub-Delivery: 1")

        def all_reported():
            return len(self.cluster.run("requests", "--flow", "blog-to-tweet", "--json").rows) == 3

        wait_until(all_reported, "edges have reported what they answered")

    def printed(self, line):
        """Run a command, in this process if it needs no shell: starting one takes longer than most commands do."""
        if not line.startswith(FLOWHOOK) or re.search(r"[|>]", line.partition("--jq")[0]):
            return self.shell.run(line)
        arguments = shlex.split(self.shell.meant(line.removeprefix(FLOWHOOK)))
        with patch.object(sys, "argv", [FLOWHOOK.strip(), *arguments]):
            return self.shell.shown(flowhook(*arguments, merged=True, COLUMNS=200).out)

    def check(self, block):
        """Run the commands of a block; return it with what they print, where that is not what it says."""
        told = []
        for command in transcripts.commands(block.text):
            words = command.line.partition("flowhook ")[2]
            key = max((each for each in self.before if words.startswith(each)), key=len, default="")
            if key and (key != "test" or words == "test"):
                self.before.pop(key)()
            deadline = time.monotonic() + (2 if transcripts.RENEW else PATIENCE)
            while not (is_told := fits(command.printed, printed := self.printed(command.line))):
                if not transcripts.SHOWS.search(command.line) or time.monotonic() > deadline:
                    assert transcripts.RENEW, f"{block}: {command.line}\n{printed}"
                    break
            self.shell.learn(command.printed, printed)
            told.append(f"$ {command.line}\n{command.printed if is_told else self.shell.told(printed)}")
        return "".join(told)


def fits(told, printed):
    """Whether a page tells what is printed, but for what it leaves out and what differs from run to run."""
    parts = [re.escape(transcripts.constant(part)) for part in told.split("…")]
    return re.fullmatch(".*".join(parts), transcripts.constant(printed), re.DOTALL) is not None


def not_executed(block):
    return NOT_EXECUTED.search(block.before) is not None


def blocks(name):
    return [block for block in pages.blocks(pages.DOCS / name) if not block.language]


def test_each_block_is_commands_that_run_or_says_why_it_is_not_executed():
    every = [block for name in PAGES for block in blocks(name)]
    assert [str(block) for block in every if not block.text.startswith("$ ") and not not_executed(block)] == []
    # fewer is better: a block that can't be executed has to say so, and raises this
    assert len(list(filter(not_executed, every))) <= 42


def test_commands_print_what_the_pages_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # without those that run when others fault
    shutil.copytree(pages.ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("alerts.yaml"))
    (tmp_path / "watched").mkdir()
    (tmp_path / ".venv").symlink_to(pages.ROOT / ".venv")
    cluster = Up(tmp_path / ".flowhook", "--no-open", tmp_path / "watched", command="dev")
    url, documented = cluster.where["http_url"], transcripts.DOCUMENTED_URL
    hosts = {documented.removeprefix("http://"): url.removeprefix("http://")}
    shell = transcripts.Shell(tmp_path, {documented: url, **hosts})
    place = Place(tmp_path, cluster, shell)
    try:
        for name in PAGES:
            text = pages.text_of(name)
            for block in blocks(name):
                if not not_executed(block):
                    text = text.replace(block.text, place.check(block), 1)
            if transcripts.RENEW:
                (pages.DOCS / name).write_text(text, encoding="utf-8")
    finally:
        shell.close()
        cluster.close()
    assert not place.before, "nothing needs them any more"


def test_tests_of_flows_pass(tmp_path):
    """Those of docs/moving.md, each of the flow above it, and that of docs/commands.md, of an example."""
    shutil.copy(pages.ROOT / "examples" / "approval.yaml", tmp_path)
    name, tests = "approval", []
    for block in [block for page in ("commands.md", "moving.md") for block in pages.blocks(pages.DOCS / page)]:
        if block.language == "yaml":
            name = re.search(r"name: ([\w-]+)", block.text)[1]
            (tmp_path / f"{name}.yaml").write_text(block.text)
        elif block.language == "json" and "test" in block.before:
            path = tmp_path / "tests" / name / f"{block.line}.json"
            path.parent.mkdir(parents=True)
            path.write_text(block.text)
            tests.append(name)
    done = flowhook("test", tmp_path, "--json")
    assert [row for row in done.rows if not row["passed"]] == []
    assert sorted(row["flow"] for row in done.rows) == sorted(tests)
    assert len(tests) == 4
