"""The recipes of docs/how-to run: each flow, its test by `flowhook test`, and the commands below it on a cluster.

What a recipe calls at api.example.com is a server here, which answers as the recipe says. A recipe without a test has
commands that run it, or says that it is only checked.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from support import pages, transcripts
from support.cases import cases
from support.commands import Up, flowhook

from flowhook.document.diagnostics.source import read

HOW_TO = pages.DOCS / "how-to"
_ANSWERS = re.compile(r"`(GET|POST|PUT) (/[^` ]*)` answers ((?:`[^`]+`(?:, then )?)+|nothing)")
_RECEIVES = re.compile(r"`(GET|POST|PUT) (/[^` ]*)` [^.]*\breceives `([^`]+)`")


class Recipe(NamedTuple):
    page: str
    title: str
    text: str
    """All of it, without line breaks within sentences."""

    name: str
    flow: str
    tests: list[str]
    transcript: str

    def __str__(self):
        return f"{self.page}: {self.title}"


def recipes():
    for path in sorted(HOW_TO.glob("*.md")):
        for part in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            found = re.findall(r"^```(\w*)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
            [flow] = [text for language, text in found if language == "yaml"]
            name = read(flow.encode()).data["document"]["name"]
            tests = [text for language, text in found if language == "json"]
            transcript = "".join(text for language, text in found if not language)
            yield Recipe(path.name, part.partition("\n")[0], " ".join(part.split()), name, flow, tests, transcript)


RECIPES = list(recipes())
SECRETS = sorted({name for recipe in RECIPES for name in re.findall(r"secret: ([a-z][a-z0-9-]*)", recipe.flow)})
SECRETS += ["api-token", "crm-client", "blog-webhook", "blog-webhook-2"]


class Api:
    """What stands for api.example.com: the first segment of a path is the recipe that calls it."""

    def __init__(self):
        self.received = []
        self.answers = {}
        self.over = threading.Event()
        for recipe in RECIPES:
            for method, path, answers in _ANSWERS.findall(recipe.text):
                self.answers[method, f"/{recipe.name}{path}"] = re.findall(r"`([^`]+)`", answers)
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = self.command, self.path.partition("?")[0]
                api.received.append((*call, body.decode()))
                status, content = api.answer(call)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_GET  # noqa: N815 - names of the library

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, call):
        """Return the next of a call's answers; the last one is given again and again."""
        answers = self.answers.get(call)
        if answers == []:
            self.over.wait()
        if not answers:
            return 500, b"no such call in the recipe"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return (int(answer), b"{}") if re.fullmatch(r"\d{3}", answer) else (200, answer.encode())

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def api():
    api = Api()
    yield api
    api.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, api):
    folder = tmp_path_factory.mktemp("how-to")
    for recipe in RECIPES:
        flow = re.sub(r"https://(api|login)\.example\.com", f"{api.url}/{recipe.name}", recipe.flow)
        (folder / f"{recipe.name}.yaml").write_text(flow)
        tests = folder / "tests" / recipe.name
        tests.mkdir(parents=True)
        for number, text in enumerate(recipe.tests):
            (tests / f"{number}.json").write_text(text)
    return folder


def test_there_are_enough_recipes_with_a_name_of_their_own():
    assert len(RECIPES) >= 25
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)


@cases("recipe", RECIPES, ids=str)
def test_each_has_a_test_or_commands_or_says_that_it_has_none(recipe):
    assert bool(recipe.tests or recipe.transcript) != ("only checked" in recipe.text)


def test_all_are_valid(folder):
    assert flowhook("check", folder).code == 0


def test_all_give_what_their_tests_say(folder, api):
    secrets = {f"FLOWHOOK_SECRET_{name.upper().replace('-', '_')}": "s3cret" for name in SECRETS}
    done = flowhook("test", folder, "--json", **secrets)
    assert [row for row in done.rows if not row["passed"]] == []
    assert {row["flow"] for row in done.rows} == {recipe.name for recipe in RECIPES if recipe.tests}
    received = {(method, path, body) for method, path, body in api.received}
    for recipe in RECIPES:
        for method, path, body in _RECEIVES.findall(recipe.text):
            assert (method, f"/{recipe.name}{path}", body) in received, recipe.title


@pytest.fixture(scope="module")
def shell(folder):
    """Commands of a cluster with all flows, and with their secrets."""
    cluster = Up(folder / ".flowhook", "--flows", folder)
    for name in SECRETS:
        assert cluster.run("secrets", "set", name, "--value", "s3cret").code == 0
    shell = transcripts.Shell(folder, {transcripts.DOCUMENTED_URL: cluster.where["http_url"]})
    yield shell
    shell.close()
    cluster.close()


def test_commands_print_what_the_pages_say(shell, folder):
    for path in sorted(HOW_TO.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for block in pages.blocks(path):
            if not block.language:
                text = text.replace(block.text, shell.check(block.text))
        if transcripts.RENEW:
            path.write_text(text, encoding="utf-8")


def test_a_test_that_expects_something_else_fails(folder, tmp_path):
    """So that the others can fail."""
    recipe = next(recipe for recipe in RECIPES if recipe.name == "customer")
    (tmp_path / "customer.yaml").write_text(recipe.flow)
    (tmp_path / "tests" / "customer").mkdir(parents=True)
    test = json.loads(recipe.tests[0])
    test["output"]["id"] = 8
    (tmp_path / "tests" / "customer" / "0.json").write_text(json.dumps(test))
    assert flowhook("test", tmp_path).code == 1
