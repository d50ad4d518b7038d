"""Refused requests: the status and reason of each response, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import gzip
import logging

import pytest
from support.patience import PATIENCE, seen_within, turns
from support.problems import refusal

JSON = [("Content-Type", "application/json")]


@pytest.fixture(autouse=True)
async def flows(router, hmac_auth):
    router.put_flow("open")
    router.put_flow("signed", auth=hmac_auth)
    router.put_flow("deep", subpaths=True)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/hook",
        "/hook/",
        "/hook//",
        "/hook/nope",
        "/hook/no_id",
        "/hook/%6Fpen",
        "/hook/a.b.c",
        "/hook/" + "a" * 200,
        "/hook/open/",
        "/hook/open/suffix",
        "/hook/OPEN",
        "/metrics",
        "/health",
        "/hook/../hook/open",
        "/hook/caf%C3%A9",
        "/hook/café",
        "//hook/open",
        "*",
    ],
)
async def test_there_is_nothing_at_any_other_url(edge, target):
    sender = await edge.connect()
    assert refusal(await sender.request("POST", target, body=b"")) == (404, "FLOW_NOT_FOUND")
    assert edge.events() == []


async def test_a_suffix_is_taken_where_the_flow_says_so(edge):
    assert (await edge.post("/hook/deep/any/suffix")).status == 202
    assert (await edge.post("/hook/deep")).status == 202


@pytest.mark.parametrize(("target", "status"), [("/hook/signed", 200), ("/hook/nope", 404), ("/hook/open/x", 404)])
async def test_head_reports_whether_there_is_a_flow_and_starts_nothing(edge, target, status):
    sender = await edge.connect()
    for _ in range(2):
        assert (await sender.request("HEAD", target)).status == status
    assert edge.events() == []


async def test_a_deleted_flow_is_gone(edge):
    assert (await edge.post("/hook/open")).status == 202
    edge.router.delete_flow("open")

    async def refused():
        return (await edge.post("/hook/open")).status != 202

    await seen_within(1, refused)
    assert refusal(await edge.post("/hook/open")) == (404, "FLOW_NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "post", "PURGE"])
async def test_another_method_learns_what_is_allowed(edge, method):
    sender = await edge.connect()
    answer = await sender.request(method, "/hook/open")
    assert refusal(answer) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "HEAD, POST"


async def test_an_address_that_is_not_allowed_is_forbidden(edge):
    edge.router.put_flow("inner", allow_from=["192.0.2.0/24"])
    answer = await edge.post("/hook/inner", b"{}", [*JSON, ("X-Forwarded-For", "192.0.2.1")])
    assert refusal(answer) == (403, "ADDRESS_FORBIDDEN")


async def test_an_address_that_is_allowed_is_let_in(edge):
    edge.router.put_flow("inner", allow_from=["127.0.0.0/8"])
    assert (await edge.post("/hook/inner")).status == 202


@pytest.mark.parametrize(
    ("auth", "headers", "challenge"),
    [
        ({"hmac": {"secret": "key", "header": "X-Signature"}}, [], None),
        ({"hmac": {"secret": "key", "header": "X-Signature"}}, [("X-Signature", "00" * 32)], None),
        ({"hmac": {"secret": "key", "header": "X-Signature"}}, [("X-Signature", "zz\xff")], None),
        ({"hmac": {"secret": "unset", "header": "X-Signature"}}, [("X-Signature", "00" * 32)], None),
        ({"github": {"secret": "key"}}, [("X-Hub-Signature-256", "sha256=")], None),
        ({"stripe": {"secret": "key"}}, [("Stripe-Signature", "t=x,v1=,,=")], None),
        ({"api_key": {"header": "X-Api-Key", "secret": "key"}}, [("X-Api-Key", "wrong")], None),
        ({"api_key": {"header": "X-Api-Key", "secret": "key"}}, [], None),
        ({"basic": {"username": "u", "secret": "key"}}, [], "Basic"),
        ({"basic": {"username": "u", "secret": "key"}}, [("Authorization", "Basic !!!")], "Basic"),
        ({"basic": {"username": "u", "secret": "key"}}, [("Authorization", "Basic dTp3cm9uZw==")], "Basic"),
    ],
)
async def test_wrong_credentials_are_always_answered_alike(edge, auth, headers, challenge, caplog):
    edge.router.put_flow("closed", auth=auth)
    with caplog.at_level(logging.WARNING):
        sender = await edge.connect()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        sender.write(f"POST /hook/closed HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{lines}\r\n{{}}".encode("latin-1"))
        answer = await sender.response()

    assert refusal(answer) == (401, "UNAUTHENTICATED")
    assert answer.json()["detail"] == "The request carries no valid credentials."
    assert answer.headers.get("www-authenticate", "").partition(" ")[0] == (challenge or "")
    assert edge.events() == []


async def test_the_operator_gets_the_reason_but_no_secret(edge, capsys):
    edge.router.put_flow("closed", auth={"api_key": {"header": "X-Api-Key", "secret": "key"}})
    await edge.post("/hook/closed", b"{}", [("X-Api-Key", "guess-of-an-attacker")])
    written = "".join(capsys.readouterr())
    assert "request unauthenticated" in written
    assert "CREDENTIALS_WRONG" in written
    assert "closed" in written
    assert "127.0.0.1" in written
    assert "guess-of-an-attacker" not in written


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b"[1,]",
        b"NaN",
        b"[Infinity]",
        b'"\xff"',
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"[" * 100_000 + b"]" * 100_000,
        "{}".encode("utf-16"),
        b'{"a": 01}',
        b'"\x00"',
    ],
)
async def test_a_body_that_is_no_json_is_refused(edge, body):
    assert refusal(await edge.post("/hook/open", body)) == (400, "BODY_INVALID")
    assert edge.events() == []


@pytest.mark.parametrize(
    ("content_type", "coding", "body", "expected"),
    [
        ("application/xml", None, b'<!DOCTYPE a [<!ENTITY x "x">]><a>&x;</a>', (400, "BODY_INVALID")),
        ("multipart/form-data; boundary=x", None, b"--x\r\n\r\nwithout end", (400, "BODY_INVALID")),
        ("application/x-www-form-urlencoded", None, b"a=1&" * 100_000, (400, "BODY_INVALID")),
        ("text/x-java-properties", None, b"a=" + b"b" * 600_000, (413, "BODY_TOO_LARGE")),
        ("application/json", "gzip", b"no gzip", (400, "BODY_INVALID")),
        ("application/json", "gzip", lambda: gzip.compress(b" " * 20_000_000, 1), (413, "BODY_TOO_LARGE")),
        ("image/png", "gzip", lambda: gzip.compress(b" " * 20_000_000, 1), (413, "BODY_TOO_LARGE")),
    ],
)
async def test_a_body_that_is_not_what_its_headers_say_is_refused(edge, content_type, coding, body, expected):
    headers = [("Content-Type", content_type), *([("Content-Encoding", coding)] if coding else [])]
    body = body() if callable(body) else body
    assert refusal(await edge.post("/hook/open", body, headers)) == expected
    assert edge.events() == []


async def test_a_flow_that_wants_bodies_raw_takes_them_all(edge):
    edge.router.put_flow("raw", parse="raw")
    assert (await edge.post("/hook/raw", b"{", [("Content-Type", "application/json")])).status == 202


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET\r\n\r\n", "REQUEST_MALFORMED"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "HEADER_MALFORMED"),
        (b"GET / HTTP/1.1\r\n\r\n", "HOST_INVALID"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "FRAMING_INVALID"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", "EXPECTATION_UNKNOWN"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000, "HEADER_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n", "TRANSFER_CODING_UNKNOWN"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP_VERSION_UNSUPPORTED"),
    ],
)
async def test_what_is_no_request_gets_the_reason(edge, data, reason):
    sender = await edge.connect()
    sender.write(data)
    assert refusal(await sender.response())[1] == reason
    assert await sender.at_eof() == b""


class TestRefusedAndGoingOn:
    """After a refusal the next request on the connection is a request of its own, or there is none."""

    @pytest.fixture(autouse=True)
    def more_flows(self, router, failure):
        router.put_flow("inner", allow_from=["192.0.2.0/24"])
        router.put_flow("keyed", auth={"api_key": {"header": "X-Api-Key", "secret": "key"}})
        for name, reason in (("busy", "RATE_LIMITED"), ("full", "STORAGE_FULL")):
            router.put_flow(name)
            router.reject[name] = failure(reason, retry_after=1)

    @pytest.mark.parametrize(
        "refused",
        [
            ("POST", "/hook/nope", [], 404),
            ("PUT", "/hook/open", [], 405),
            ("POST", "/hook/inner", [], 403),
            ("POST", "/hook/keyed", [], 401),
            ("POST", "/hook/signed", [], 401),
            ("POST", "/hook/open", JSON, 400),
            ("POST", "/hook/busy", [], 429),
            ("POST", "/hook/full", [], 503),
            ("HEAD", "/hook/open", [], 200),
        ],
    )
    @pytest.mark.parametrize("body", [b"", b"GET /hook/nope HTTP/1.1\r\nHost: smuggled\r\n\r\n", b"x" * 60_000])
    async def test_the_connection_lives_on(self, edge, refused, body):
        method, target, headers, status = refused
        sender = await edge.connect()
        for _ in range(2):
            assert (await sender.request(method, target, body=body, headers=headers)).status == status
            assert (await sender.request("POST", "/hook/open", body=b"next")).status == 202
        assert [event.body for event in edge.events()] == [b"next"] * 2

    @pytest.mark.parametrize("target", ["/hook/nope", "/hook/keyed"])
    @pytest.mark.parametrize(
        "framing",
        [
            b"Content-Length: 70000\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n",
            b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        ],
    )
    async def test_one_whose_body_is_not_read_ends(self, edge, target, framing):
        sender = await edge.connect()
        sender.write(f"POST {target} HTTP/1.1\r\nHost: a\r\n".encode() + framing)
        sender.write(b"0\r\n\r\nPOST /hook/open HTTP/1.1\r\nHost: smuggled\r\n\r\n")
        answer = await sender.response()
        assert (answer.status, answer.headers["connection"]) == (401 if "keyed" in target else 404, "close")
        assert await sender.at_eof() == b""
        assert edge.events() == []


async def test_the_signature_is_checked_before_the_body_is_parsed(edge):
    assert refusal(await edge.post("/hook/signed", b"{"))[0] == 401


async def test_the_method_is_checked_before_the_credentials(edge):
    assert refusal(await edge.post("/hook/signed", method="PUT"))[0] == 405


async def test_credentials_in_headers_are_checked_before_the_body_comes(edge):
    edge.router.put_flow("closed", auth={"api_key": {"header": "X-Api-Key", "secret": "key"}})
    sender = await edge.connect()
    sender.write(b"POST /hook/closed HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
    assert refusal(await sender.response()) == (401, "UNAUTHENTICATED")


class TestWithoutASignature:
    """Nothing that could follow would help: no body is received, nor asked for."""

    BODY_TO_COME = b"Host: a\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n"

    @pytest.mark.parametrize(
        ("auth", "reason"),
        [
            ({"hmac": {"secret": "key", "header": "X-Signature"}}, "SIGNATURE_MISSING"),
            ({"github": {"secret": "unset"}}, "SECRET_NOT_SET"),
            ([{"stripe": {"secret": "key"}}, {"basic": {"username": "u", "secret": "key"}}], "SIGNATURE_MISSING"),
        ],
    )
    async def test_a_request_is_refused_before_its_body_comes(self, edge, auth, reason, capsys):
        edge.router.put_flow("closed", auth=auth)
        sender = await edge.connect()
        sender.write(b"POST /hook/closed HTTP/1.1\r\n" + self.BODY_TO_COME + b"\r\n")
        answer = await sender.response()
        assert refusal(answer) == (401, "UNAUTHENTICATED")
        assert answer.json()["detail"] == "The request carries no valid credentials."
        assert reason in "".join(capsys.readouterr())

    async def test_what_is_most_telling_of_several_kinds_goes_to_the_log(self, edge, hmac_auth, capsys):
        edge.router.put_flow("closed", auth=[hmac_auth, {"api_key": {"header": "X-Api-Key", "secret": "key"}}])
        sender = await edge.connect()
        sender.write(b"POST /hook/closed HTTP/1.1\r\nX-Api-Key: wrong\r\n" + self.BODY_TO_COME + b"\r\n")
        assert refusal(await sender.response()) == (401, "UNAUTHENTICATED")
        assert "CREDENTIALS_WRONG" in "".join(capsys.readouterr())

    @pytest.mark.parametrize("signature", [b"X-Signature: wrong\r\n", b"x-signature:\r\n"])
    async def test_a_signature_of_any_value_may_be_one(self, edge, signature, capsys):
        sender = await edge.connect()
        sender.write(b"POST /hook/signed HTTP/1.1\r\n" + signature + self.BODY_TO_COME + b"\r\n")
        assert (
            await asyncio.wait_for(sender.reader.readuntil(b"\r\n\r\n"), PATIENCE) == b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        sender.write(b"x" * 500_000)
        assert refusal(await sender.response()) == (401, "UNAUTHENTICATED")
        assert "SIGNATURE_MALFORMED" in "".join(capsys.readouterr())


class TestTooLarge:
    @pytest.fixture(autouse=True)
    async def flow(self, router):
        router.put_flow("small", max_body="1KiB")

    async def test_the_largest_body_is_taken(self, edge):
        assert (await edge.post("/hook/small", b"x" * 1024, [])).status == 202

    async def test_a_larger_one_is_refused_before_it_is_read(self, edge):
        sender = await edge.connect()
        sender.write(b"POST /hook/small HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n")
        answer = await sender.response()
        assert refusal(answer) == (413, "BODY_TOO_LARGE")
        assert answer.headers["connection"] == "close"

    async def test_the_connection_is_drained_for_a_second_at_most(self, edge):
        sender = await edge.connect()
        sender.write(b"POST /hook/small HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 3_000_000)
        assert refusal(await sender.response())[0] == 413
        started = asyncio.get_running_loop().time()

        async def send_on():
            while True:
                sender.write(b"x" * 100_000)
                await sender.writer.drain()
                await asyncio.sleep(0.01)

        async with turns() as passed:
            assert await sender.at_eof() == b""
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(send_on(), PATIENCE)
        assert asyncio.get_running_loop().time() - started > 0.5
        assert passed.seconds < 2

    async def test_a_chunked_body_is_counted(self, edge):
        sender = await edge.connect()
        sender.write(b"POST /hook/small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            sender.write(b"100\r\n" + b"x" * 256 + b"\r\n")
        assert refusal(await sender.response()) == (413, "BODY_TOO_LARGE")
        assert edge.events() == []

    async def test_a_chunk_that_says_it_is_larger_is_refused_when_it_has_come_too_far(self, edge):
        sender = await edge.connect()
        sender.write(
            b"POST /hook/small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b"x" * 2000
        )
        assert refusal(await sender.response()) == (413, "BODY_TOO_LARGE")

    @pytest.mark.parametrize("framing", [b"Content-Length: 5000", b"Content-Length: 99999999999999999"])
    async def test_nobody_gets_a_100_continue_with_it(self, edge, framing):
        sender = await edge.connect()
        sender.write(b"POST /hook/small HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\nExpect: 100-continue\r\n\r\n")
        assert refusal(await sender.response())[0] == 413

    @pytest.mark.parametrize("target", [b"/hook/nope", b"/hook/signed/x"])
    async def test_nobody_gets_a_100_continue_with_what_is_refused_anyway(self, edge, target):
        sender = await edge.connect()
        sender.write(b"POST " + target + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert refusal(await sender.response())[0] == 404
        assert await sender.at_eof() == b""


async def test_a_small_body_of_a_refused_request_is_skipped_and_the_connection_lives_on(edge):
    sender = await edge.connect()
    assert refusal(await sender.request("POST", "/hook/nope", body=b"POST /hook/open HTTP/1.1\r\n\r\n"))[0] == 404
    assert (await sender.request("POST", "/hook/open", body=b"x")).status == 202
    assert len(edge.events()) == 1


async def test_a_defect_is_500_and_others_are_served_on(edge, monkeypatch, capsys):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("edge.webhook.stages.ids.mint", broken)
        assert refusal(await edge.post("/hook/open")) == (500, "INTERNAL")
    assert "request failed" in "".join(capsys.readouterr())
    assert (await edge.post("/hook/open")).status == 202
