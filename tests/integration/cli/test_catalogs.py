"""Functions of catalogs are fetched over https when a flow is read, become part of it, and run without a network."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import re
import ssl
import tarfile
import threading
from functools import partial

import pytest
from aiohttp import web
from support.certificates import Authority
from support.commands import flowhook
from support.http_servers import http_server

from cli import embedding
from cli.embedding import MAX_BYTES
from cli.flow_files import check_flow_files, read_flow_file
from flowhook.document.catalogs import MAX_FUNCTIONS
from flowhook.document.loader import canonical, parse
from flowhook.errors import InvalidFlowError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}\n"
PATH = "/functions/log/1.0.0/function.yaml"
LOG = """\
input: {schema: {document: {type: object, required: [message]}}}
output: {schema: {document: {type: object}}}
set: {line: '${ "logged \\(.message)" }'}
"""
FLOW = """\
use: {catalogs: {shop: {endpoint: 'ENDPOINT'}}}
do:
  - log:
      call: log:1.0.0@shop
      with: {message: paid}
"""


class Shop:
    """A catalog: its files by path, what it raises instead of one, and the requests that it got."""

    def __init__(self, folder):
        self.folder, self.requests, self.answers = folder, [], {}
        self.files = {PATH: LOG.encode()}

    @property
    def flow(self):
        return self.folder / "pay.yaml"

    async def read(self, text):
        self.flow.write_text(HEAD + text.replace("ENDPOINT", self.url))
        return await asyncio.to_thread(read_flow_file, self.flow)

    async def refusal(self, text):
        with pytest.raises(InvalidFlowError) as refused:
            await self.read(text)
        (fault,) = refused.value.faults
        return fault


@pytest.fixture
def tls(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("shop", hosts=["localhost"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    return context


@pytest.fixture
async def shop(tmp_path, tls):
    embedding.fetch.cache_clear()
    embedding.unpack.cache_clear()

    shop = Shop(tmp_path)

    async def answer(request):
        shop.requests.append(request)
        if refusal := shop.answers.get(request.path):
            raise refusal()
        if request.path not in shop.files:
            raise web.HTTPNotFound
        return web.Response(body=shop.files[request.path])

    async with http_server(answer, tls=tls) as shop.url:
        yield shop


def calling(name, endpoint="ENDPOINT"):
    return FLOW.replace("log:1.0.0@shop", name).replace("ENDPOINT", endpoint)


def archive(files, **more):
    """Return a .tar.gz of files by path; `more` are attributes of all members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in more.items():
                setattr(member, key, value)
            members.addfile(member, io.BytesIO(content))
    return packed.getvalue()


async def test_a_function_becomes_part_of_the_text_whose_lines_stay(shop):
    given = await shop.read(FLOW)
    text = (shop.flow).read_bytes()
    assert given.startswith(text)
    uri = f"{shop.url}/functions/log/1.0.0/function.yaml"
    function = parse(given, functions=()).definition["use"]["functions"]["log:1.0.0@shop"]
    assert function["metadata"] == {"catalog": {"uri": uri, "sha256": hashlib.sha256(LOG.encode()).hexdigest()}}
    assert function["set"] == {"line": '${ "logged \\(.message)" }'}


async def test_what_a_router_returns_of_a_flow_contains_its_functions_too(shop):
    definition = parse(await shop.read(FLOW), functions=()).definition
    shop.files.clear()
    shop.flow.write_bytes(canonical(definition))
    (again,), faults = check_flow_files([shop.flow])
    assert (again.document.definition, faults, len(shop.requests)) == (definition, [], 1)


async def test_a_text_that_contains_its_functions_is_taken_as_it_is(shop):
    given = await shop.read(FLOW)
    shop.files.clear()
    (shop.flow).write_bytes(given)
    (read,), faults = check_flow_files([shop.flow])
    assert (read.content, faults, len(shop.requests)) == (given, [], 1)


@pytest.mark.parametrize(
    ("files", "endpoint"),
    [
        ({"/a/b/functions/log/1.0.0/function.yaml": LOG.encode()}, "ENDPOINT/a/b/"),
        ({"/o/r/-/raw/v1/functions/log/1.0.0/function.yaml": LOG.encode()}, "ENDPOINT/o/r/-/tree/v1"),
        ({"/r.tar.gz": archive({"r-1/functions/log/1.0.0/function.yaml": LOG.encode()})}, "ENDPOINT/r.tar.gz"),
        ({"/r.tgz": archive({"./functions/log/1.0.0/function.yaml": LOG.encode()})}, "ENDPOINT/r.tgz"),
    ],
)
async def test_files_are_found_where_a_catalog_has_them(shop, files, endpoint):
    shop.files = files
    given = await shop.read(calling("log:1.0.0@shop", endpoint))
    assert parse(given, functions=()).definition["use"]["functions"]["log:1.0.0@shop"]["set"]


def test_pages_of_git_hosts_are_read_as_raw_files():
    raw = "https://raw.githubusercontent.com/serverlessworkflow/catalog"
    page = "https://github.com/serverlessworkflow/catalog"
    assert embedding.raw_url(page) == embedding.raw_url(f"{page}/") == f"{raw}/HEAD"
    assert embedding.raw_url(f"{page}/tree/main") == f"{raw}/main"
    assert embedding.raw_url(f"{page}/blob/v1/functions/f.yaml") == f"{raw}/v1/functions/f.yaml"
    assert embedding.raw_url("https://gitlab.com/a/b/c") == "https://gitlab.com/a/b/c/-/raw/HEAD"
    assert embedding.raw_url("https://gitlab.com/a/b/-/tree/main") == "https://gitlab.com/a/b/-/raw/main"
    assert embedding.raw_url("https://git.example.org/a/b") == "https://git.example.org/a/b"


async def test_the_url_of_a_file_names_a_function_too(shop):
    url = f"{shop.url}/log.yaml"
    shop.files = {"/log.yaml": LOG.encode()}
    definition = parse(await shop.read(calling(url)), functions=()).definition
    assert definition["use"]["functions"][url]["metadata"]["catalog"]["uri"] == url


async def test_the_default_catalog_is_the_folder_beside_the_flow(shop):
    folder = shop.folder / "functions" / "log" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "function.yaml").write_text(LOG)
    definition = parse(await shop.read(calling("log:1.0.0@default")), functions=()).definition
    source = definition["use"]["functions"]["log:1.0.0@default"]["metadata"]["catalog"]["uri"]
    assert (source, shop.requests) == ("functions/log/1.0.0/function.yaml", [])


async def test_functions_call_others_of_their_catalog_which_are_fetched_too(shop):
    shop.files |= {"/functions/outer/2.0.0/function.yaml": b"{call: 'log:1.0.0@shop', with: {message: '${ .m }'}}"}
    definition = parse(await shop.read(calling("outer:2.0.0@shop")), functions=()).definition
    assert definition["use"]["functions"].keys() == {"outer:2.0.0@shop", "log:1.0.0@shop"}


@pytest.mark.parametrize(
    ("policy", "header"),
    [
        ("basic: {username: ann, password: pw}", "Basic YW5uOnB3"),
        ("bearer: {token: abc}", "Bearer abc"),
        ("use: policy", "Bearer abc"),
    ],
)
async def test_credentials_are_sent_to_the_catalog_and_to_no_other_host(shop, policy, header):
    log = shop.files.pop(PATH)
    elsewhere = shop.url.replace("127.0.0.1", "localhost")
    shop.answers = {PATH: partial(web.HTTPFound, f"{shop.url}/here")}
    shop.answers["/here"] = partial(web.HTTPFound, f"{elsewhere}/there")
    shop.files = {"/there": log}
    text = FLOW.replace("use: {", "use: {authentications: {policy: {bearer: {token: abc}}}, ")
    await shop.read(text.replace("'ENDPOINT'", f"{{uri: 'ENDPOINT', authentication: {{{policy}}}}}"))
    assert [each.headers.get("Authorization") for each in shop.requests] == [header, header, None]


@pytest.mark.parametrize("policy", ["basic: {use: s}", "bearer: {token: '${ $secrets.s }'}", "digest: {use: s}"])
async def test_credentials_that_are_secrets_are_refused(shop, policy):
    text = FLOW.replace("use: {", "use: {secrets: [s], ")
    fault = await shop.refusal(text.replace("'ENDPOINT'", f"{{uri: 'ENDPOINT', authentication: {{{policy}}}}}"))
    assert (fault.line, fault.key, fault.code) == (5, "do[0].log.call", "FUNCTION_NOT_FETCHED")
    assert "has no secrets" in fault.cause


BOMB = gzip.compress(bytes(embedding.MAX_UNPACKED_BYTES + 1))


def packed(content, **more):
    return {"/a.tgz": archive({PATH[1:]: content}, **more)}


PLAIN = [
    ({}, "answered 404"),
    ({PATH: web.HTTPForbidden}, "answered 403"),
    ({PATH: partial(web.HTTPFound, PATH)}, "answered 302"),
    ({PATH: partial(web.HTTPFound, "http://x.y/f")}, "redirects to http://x.y/f, which is not https"),
    ({PATH: partial(web.HTTPFound, f"https://{'a' * 64}.y/f")}, "can't be fetched: .* a redirect are malformed"),
    ({PATH: b"#" * (MAX_BYTES + 1)}, f"is larger than {MAX_BYTES} bytes"),
]
FILES = dict.fromkeys(map(str, range(embedding.MAX_ARCHIVED_FILES + 1)), b"")
PACKED = [
    ({"/a.tgz": archive({"x": b""})}, f"has no {PATH[1:]}"),
    ({"/a.tgz": archive({"a/b" + PATH: b""})}, f"has no {PATH[1:]}"),
    (packed(b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), f"has no {PATH[1:]}"),
    ({"/a.tgz": archive(FILES)}, f"has more than {embedding.MAX_ARCHIVED_FILES} files"),
    ({"/a.tgz": BOMB}, f"is larger than {embedding.MAX_UNPACKED_BYTES} bytes, unpacked"),
    ({"/a.tgz": b"PK"}, "is not a .tar.gz archive: .*"),
    ({"/a.tgz": packed(LOG.encode())["/a.tgz"][:-20]}, "is not a .tar.gz archive: it is cut off"),
]


@pytest.mark.parametrize(
    ("files", "endpoint", "cause"),
    [
        *((files, "ENDPOINT", f"ENDPOINT{PATH} {cause}") for files, cause in PLAIN),
        *((files, "ENDPOINT/a.tgz", f"ENDPOINT/a.tgz {cause}") for files, cause in PACKED),
        ({PATH: b"\xff"}, "ENDPOINT", "log:1.0.0@shop is not valid UTF-8"),
        (packed(b"#" * (MAX_BYTES + 1)), "ENDPOINT/a.tgz", f"log:1.0.0@shop is larger than {MAX_BYTES} bytes"),
        ({}, "https://a..b/é", f"https://a..b/é{PATH} can't be fetched: it, .* malformed"),
        ({}, "https://127.0.0.1:1", f"https://127.0.0.1:1{PATH} can't be reached: .* refused"),
    ],
)
async def test_what_can_not_be_fetched_is_said_at_the_call(shop, files, endpoint, cause):
    shop.answers = {path: each for path, each in files.items() if not isinstance(each, bytes)}
    shop.files = {path: each for path, each in files.items() if isinstance(each, bytes)}
    fault = await shop.refusal(calling("log:1.0.0@shop", endpoint))
    assert (fault.line, fault.key, fault.code) == (5, "do[0].log.call", "FUNCTION_NOT_FETCHED")
    assert re.fullmatch(cause.replace("ENDPOINT", shop.url), fault.cause), fault.cause


async def test_credentials_that_can_not_be_sent_are_not_told(shop):
    endpoint = "{uri: 'ENDPOINT', authentication: {bearer: {token: \"hid\\nden\"}}}"
    fault = await shop.refusal(FLOW.replace("'ENDPOINT'", endpoint))
    assert re.search("can't be fetched: .* credentials .* malformed", fault.cause)
    assert "hid" not in fault.cause


async def test_a_server_that_never_ends_its_answer_is_waited_for_once_and_not_for_long(shop, monkeypatch, tls):
    monkeypatch.setattr(embedding, "SECONDS", 0.4)
    requests, given_up = [], asyncio.Event()

    async def drip(reader, writer):
        requests.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nName: ")
        while not given_up.is_set():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0, ssl=tls) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        shop.flow.write_text(HEAD + calling("log:1.0.0@shop", url) + "  - other: {call: 'other:1.0.0@shop'}\n")
        with pytest.raises(InvalidFlowError) as refused:
            await asyncio.to_thread(read_flow_file, shop.flow)
        given_up.set()
        for fetching in [thread for thread in threading.enumerate() if thread.name == "_fetch"]:
            await asyncio.to_thread(fetching.join)
    cause = f"{url}{PATH} took more than 0 s"
    assert [(fault.key, fault.cause) for fault in refused.value.faults] == [
        ("do[0].log.call", cause),
        ("do[1].other.call", cause),
    ]
    assert len(requests) == 1


async def test_a_certificate_that_nobody_trusts_is_refused(shop, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "CERTIFICATE_VERIFY_FAILED" in (await shop.refusal(FLOW)).cause


async def test_a_flow_calls_so_many_functions_and_no_more(shop):
    numbers = range(MAX_FUNCTIONS + 1)
    shop.files |= {f"/functions/f{number}/1.0.0/function.yaml": b"set: {a: 1}" for number in numbers}
    tasks = [f"  - t{number}: {{call: 'f{number}:1.0.0@shop'}}\n" for number in numbers]
    use = FLOW.partition("do:")[0] + "do:\n"
    assert len(parse(await shop.read(use + "".join(tasks[:-1]))).definition["use"]["functions"]) == MAX_FUNCTIONS
    await shop.read(use + "".join(tasks))
    (fault,) = check_flow_files([shop.flow])[1]
    assert (fault.key, fault.cause) == ("use.functions", f"a flow calls at most {MAX_FUNCTIONS} functions of catalogs")


USES = "a function of a catalog can't use secrets or policies of the flow: .*"
CALLS = "a function of a catalog can't call '{}', "
POLICY = "{uri: 'https://x.y', authentication: {basic: {use: b}}}"
NO_FUNCTIONS = [
    ("[]", "", "ITEM_INVALID", "expected .*"),
    ("a: [", "", "YAML_INVALID", "invalid YAML: .*"),
    ("{call: 'log:1.0.0@shop'}", "", "FUNCTION_DEPTH", "calls itself, or calls functions more than 8 levels deep"),
    ("{run: {container: {image: a}}}", ".run.container", "UNSUPPORTED", "containers are not supported.*"),
    ("{set: {a: '${ $secrets.b }'}}", ".set.a", "REFERENCE_UNKNOWN", USES),
    (
        f"{{call: http, with: {{method: get, endpoint: {POLICY}}}}}",
        ".with.endpoint.authentication.basic.use",
        "REFERENCE_UNKNOWN",
        USES,
    ),
    ("{call: x:1.0.0@default}", ".call", "FUNCTION_UNKNOWN", CALLS.format("x:1.0.0@default") + "which .*"),
    ("{do: [{a: {call: own}}]}", ".do[0].a.call", "FUNCTION_UNKNOWN", CALLS.format("own") + "only .*"),
    ("{call: twitter.post, with: {text: a}}", ".call", "FUNCTION_UNKNOWN", CALLS.format("twitter.post") + "only .*"),
]


@pytest.mark.parametrize(("function", "key", "code", "cause"), NO_FUNCTIONS)
async def test_a_function_uses_nothing_but_its_arguments_and_its_catalog(shop, function, key, code, cause):
    shop.files = {PATH: function.encode()}
    folder = shop.folder / "functions" / "x" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "function.yaml").write_text("set: {a: 1}")
    text = FLOW.replace("use: {", "use: {secrets: [b], functions: {own: {set: {a: 1}}}, ")
    await shop.read(text)
    ((fault),) = check_flow_files([shop.flow])[1]
    assert (fault.line, fault.key, fault.code) == (5, f"use.functions['log:1.0.0@shop']{key}", code)
    assert re.fullmatch(cause, fault.cause), fault.cause


async def test_a_digest_that_a_flow_names_has_to_be_that_of_the_file(shop):
    digest = hashlib.sha256(LOG.encode()).hexdigest()
    named = FLOW + f"      metadata: {{sha256: {digest}}}\n"
    assert parse(await shop.read(named), functions=())
    other = await shop.read(named.replace(digest, "0" * 64))
    with pytest.raises(InvalidFlowError) as refused:
        parse(other, functions=())
    (fault,) = refused.value.faults
    assert (fault.line, fault.key, fault.code) == (7, "do[0].log.metadata.sha256", "DIGEST_DIFFERS")
    assert fault.cause == f"the file of 'log:1.0.0@shop' has the SHA-256 {digest}"


@pytest.mark.parametrize("appended", [b"{", b"[]", b'{"f:1.0.0@shop": {}}', b'{"f:1.0.0@shop": 5}'])
async def test_a_second_document_of_another_kind_is_refused(shop, appended):
    text = (await shop.read(FLOW)).partition(b"{\n")[0] + appended
    with pytest.raises(InvalidFlowError, match="a second document, which `flowhook apply` did not add"):
        parse(text)


async def test_check_says_what_it_could_not_check_and_checks_the_rest(shop):
    (shop.flow).write_text(HEAD + FLOW.replace("ENDPOINT", "https://127.0.0.1:1"))
    result = await asyncio.to_thread(flowhook, "check", shop.flow)
    assert (result.code, result.out) == (0, f"{shop.flow}: pay is fine\n")
    said = "do[0].log.call: not checked: https://127.0.0.1:1/functions/log/1.0.0/function.yaml can't be reached: "
    assert result.err.startswith(f"{shop.flow}:5: warning: {said}")
    (shop.flow).write_text(HEAD + FLOW.replace("ENDPOINT", shop.url).replace("1.0.0@", "2.0.0@"))
    result = await asyncio.to_thread(flowhook, "check", shop.flow)
    assert (result.code, "answered 404" in result.err) == (1, True)


async def test_a_flow_runs_without_the_catalog(shop):
    given = await shop.read(FLOW)
    shop.files.clear()
    (shop.flow).write_bytes(given)
    result = await asyncio.to_thread(flowhook, "exec", shop.flow)
    assert (result.code, json.loads(result.out)) == (0, {"line": "logged paid"}), result.err


async def test_a_function_that_changed_is_another_text(shop):
    before = await shop.read(FLOW)
    embedding.fetch.cache_clear()
    shop.files[PATH] += b"# changed\n"
    assert await shop.read(FLOW) != before


async def test_what_up_checks_before_it_starts_fetches_nothing(shop):
    shop.flow.write_text(HEAD + FLOW.replace("ENDPOINT", shop.url))
    unreached = {}
    flows, faults = check_flow_files([shop.flow], unreached, fetches=False)
    assert ([flow.document.id for flow in flows], faults, [*unreached]) == (["pay"], [], ["log:1.0.0@shop"])
    assert shop.requests == []
