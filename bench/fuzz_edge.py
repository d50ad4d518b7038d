"""Fuzz the edge of a real cluster: `python -m bench.fuzz_edge --requests 1000000`.

Valid requests of every kind of `auth`, with bodies of every kind that is parsed, and handshakes, are changed at random,
some bytes or whole lines, glued together, cut into pieces and sent over raw sockets; connections end by the book, in
the middle, or with a reset. Most flows are paused; one is run by runners. It fails, with exit code 1, on

- an answer of 5xx other than 503 (and 501, 505, which say that the request asks for what there is not);
- bytes from the edge that are no sequence of whole HTTP responses, or more of these than there were requests;
- a connection that the edge neither answers nor ends within `HANG_SECONDS`;
- an error or a traceback in any process's log, an edge that was restarted;
- an execution that faults, of a flow that takes anything;
- an event of a flow whose credentials no request here has;
- valid requests that are not accepted afterwards.

The seed it prints makes the same requests again; timing and interleaving differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from bench.cluster import Cluster, running_cluster
from bench.fuzz_payloads import PLAIN, Payloads
from flowhook.document.auth import parse_auth
from flowhook.document.auth.providers import PROVIDERS
from flowhook.errors import InvalidError
from flowhook.model import Status
from flowhook.signatures import sign, sign_url

HANG_SECONDS: Final = 20.0
CONNECTIONS: Final = 32
DRAIN_SECONDS: Final = 300.0
"""How long what was accepted may take to run afterwards."""
SHOWN: Final = 5
"""Failures that are printed in full, of those that differ in more than numbers."""

LEGITIMATE_5XX: Final = frozenset({501, 503, 505})

SECRETS: Final = {"fuzz": b"a secret of the fuzzer", "hex": b"00ff" * 16, "never": b"no request has this one"}

FLOWS: Final[dict[str, dict[str, Any]]] = {
    "open": {
        "auth": "none",
        "methods": ["POST", "GET", "PUT", "PATCH", "DELETE"],
        "subpaths": True,
        "callbacks": {
            "approval": {"auth": "none"},
            "closed": {"auth": {"basic": {"username": "bank", "secret": "never"}}},
        },
    },
    "echo": {
        "auth": "none",
        "respond": {
            "headers": {"X-Path": "${ .path }", "X-Agent": '${ .headers["user-agent"] }', "X-Body": "${ .body }"},
            "body": {"got": "${ .body }", "query": "${ .query }", "headers": "${ .headers }"},
        },
        "dedupe": {"key": '${ "\\(.query.k)\\(.body)" }'},
    },
    "basic": {"auth": {"basic": {"username": "bank", "secret": "fuzz"}}},
    "key": {"auth": {"api_key": {"header": "X-Api-Key", "secret": "fuzz"}}},
    "query": {"auth": {"api_key": {"query": "api_key", "secret": "fuzz"}}, "subpaths": True},
    "github": {"auth": {"github": {"secret": "fuzz"}}},
    "stripe": {"auth": {"stripe": {"secret": "fuzz"}}},
    "slack": {"auth": {"slack": {"secret": "fuzz"}}},
    "shopify": {"auth": {"shopify": {"secret": "fuzz"}}},
    "standard": {"auth": {"standard-webhooks": {"secret": "fuzz"}}},
    "spelled": {
        "auth": {
            "hmac": {
                "secret": "fuzz",
                "header": "X-Signature",
                "content": "{method}{url}{timestamp}{id}{header:content-type}{body}",
                "timestamp": {"header": "X-Timestamp", "unit": "rfc3339"},
            }
        },
        "methods": ["POST", "PUT"],
    },
    "small": {"auth": "none", "max_body": "64B"},
    "closed": {
        "auth": [
            {"hmac": {"secret": "never", "header": "X-Signature"}},
            {"basic": {"username": "bank", "secret": "never"}},
            {"api_key": {"header": "X-Api-Key", "secret": "never"}},
        ]
    },
}

SEES_ALL: Final = "sees-all"
"""The flow that runs, with expressions over the body wherever there may be some."""

FLOWS |= {name: {"auth": {name: {"secret": "fuzz"}}, "methods": ["POST", "GET"]} for name in PROVIDERS} | {
    "paypal": {"auth": {"paypal": {"webhook_id": "8PT597110X687430LKGECATA"}}},
    "aws-sns": {"auth": {"aws-sns": {"topic_arn": "arn:aws:sns:us-east-1:123456789012:fuzz"}}},
    "plaid": {"auth": {"plaid": {"client_id": "fuzz", "secret": "fuzz", "environment": "sandbox"}}},
    "adyen": {"auth": {"adyen": {"secret": "hex"}}},
    "discord": {
        "auth": {"discord": {"public_key": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"}}
    },
    "sendgrid": {
        "auth": {
            "sendgrid": {
                "public_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe6"
                "2gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
            }
        }
    },
    "meta": {"auth": {"meta": {"secret": "fuzz", "verify_token": "fuzz"}}},
    "raw": {"auth": "none", "parse": "raw"},
    SEES_ALL: {
        "auth": "none",
        "respond": {"body": {"body": "${ .body }", "a": "${ .body.a.b }"}, "headers": {"X-A": '${ "\\(.body.a)" }'}},
        "dedupe": {"key": "${ .body.id }", "window": "PT1S"},
    },
}
CANNOT_SIGN: Final = frozenset(
    {"adyen", "aws-sns", "discord", "linear", "mailgun", "microsoft-graph", "paypal", "plaid", "sendgrid", "twilio"}
)
"""There is more to sign than a JSON body with headers, or the key is not known."""

QUERIES: Final = (
    "", "", "", "?a=1&b=%20", "?k=1", "?hub.mode=subscribe&hub.challenge=%0a", "?challenge=abc",
    "?challenge=%ff%3Cb%3E", "?hub.mode=subscribe&hub.verify_token=a%20secret%20of%20the%20fuzzer&hub.challenge=1",
    "?crc_token=YWJj", "?crc_token=", "?validationToken=abc", "?validationToken=" + "v" * 3000,
    "?bodySHA256=00", "?api_key=%ff",
)  # fmt: skip
ASKED: Final = (
    ("X-Hook-Secret", "chosen"), ("Twitch-Eventsub-Message-Type", "webhook_callback_verification"),
    ("X-Signature-Ed25519", "00" * 64), ("X-Signature-Timestamp", "1"),
    ("X-Twilio-Email-Event-Webhook-Signature", "MEUCIQ=="), ("X-Twilio-Email-Event-Webhook-Timestamp", "1"),
    ("Linear-Signature", "00" * 32), ("webhook-id", "msg_1"),
)  # fmt: skip

LINES: Final = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
    b"Content-Length: 9999999999", b"Content-Length : 3", b"Content-Length: 3, 3", b"Content-Length: 0x3",
    b"Content-Length:\t2 ", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:chunked", b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: gzip", b" folded: line", b"\tfolded", b"Host: b", b"Host:", b"Host: a b",
    b"Host: [::1]:8080", b"Expect: 100-continue", b"Expect: 200-ok", b"Connection: close", b"Connection: keep-alive",
    b"Connection: x-signature, host", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Authorization: Basic", b"authorization: basic YTpi",
    b"Authorization: Basic \xff\xff", b"X-Api-Key: a secret of the fuzzer", b"X-Api-Key: ", b"Cookie: a=b",
    b"traceparent: \xff\xfe", b"User-Agent: a\x7fb", b"User-Agent: \xc3\xa9\xe9", b"User-Agent: " + b"u" * 9000,
    b"X: " + b"y" * 70_000, b"X" * 300 + b": y", b"Content-Type: application/json; charset=\xff",
    b"Content-Encoding: gzip", b"webhook-id: " + b"i" * 400, b"Stripe-Signature: t=1,v1=,v1",
    b"X-Slack-Request-Timestamp: 99999999999999", b"no colon", b": no name", b"a\x00b: c", b"X: a\rb", b"X: a\nb",
    b"TE: trailers", b"",
)  # fmt: skip
BYTES: Final = b"\r\n\t :;,=%&?/#\x00\x0b\x7f\x80\xff0aZ{}[]\"'"
TARGETS: Final = (
    b"/", b"*", b"/hook/", b"/hook/nope", b"/hook/open/%2e%2e/x", b"/hook/open/..;/x", b"/hook/%6fpen",
    b"//hook/open", b"http://x/hook/open", b"https://u:p@x/hook/open", b"http:///hook/open", b"x:443",
    b"/hook/open?%zz=%&&=;a=1;api_key=x", b"/hook/open\xc3\xa9", b"/hook/open\xff",
    b"/hook/query?api%5Fkey=x&api_key=y", b"/hook/" + b"a" * 200, b"/hook/open/" + b"b" * 60_000, b"/hook/open#x",
    b"/hook/echo?k=%00%ff", b"/hook/fuzz.open/approval", b"/hook/fuzz.open/approval/", b"/hook/fuzz.open/closed",
    b"/hook/fuzz.open/approval/01m87fm9r1fnkskrqpvkm555sb.0.LcxJMHPFJM5Md3tkZAe25O2kciM3N6-zHFcnR_qX4Hc",
    b"/hook/fuzz.open/closed/" + b"c" * 128, b"/hook/fuzz.open/approval/..%2f\xff", b"/hook/fuzz.open/closed/.",
)  # fmt: skip


@dataclass
class Findings:
    """What was seen so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    connections: int = 0
    resets: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, what: str, sent: bytes = b"", received: bytes = b"") -> None:
        """Keep a failure, with what led to it."""
        self.failures.append(f"{what}\n  sent {sent[:600]!r}\n  received {received[:600]!r}" if sent else what)


class Generator:
    """Makes valid requests and changes them."""

    def __init__(self, source: random.Random, host: str) -> None:
        """Take every decision from `source`; send to `host`."""
        self._random = source
        self._host = host
        self._payloads = Payloads(source)
        self._mutations: Sequence[Callable[[bytearray], None]] = (
            self._change_byte, self._drop_bytes, self._add_bytes, self._repeat_slice, self._cut, self._add_line,
            self._add_line, self._drop_line, self._repeat_line, self._swap_lines, self._change_target,
            self._change_version, self._change_method,
        )  # fmt: skip

    def valid(self, name: str, *, plain: bool = False) -> bytes:
        """Return a request that the flow of this name lets in, but for `closed` and those of `CANNOT_SIGN`.

        Args:
            name: of the flow.
            plain: it is accepted for sure; otherwise its body may be refused, or it may be a handshake.
        """
        pick = self._random.choice
        webhook = FLOWS[name]
        kinds = parse_auth(webhook["auth"])
        kind = pick(kinds) if kinds else None
        fields, body = PLAIN if plain else self._payloads.make()
        if name == "small" and self._random.random() < 0.7:
            body = body[:64]
        secrets = {**SECRETS, "never": b"a guess"}
        query = "" if plain else pick(QUERIES)
        url = sign_url(kind, secrets, f"http://{self._host}/hook/fuzz.{name}{query}")
        method = "POST" if plain else pick(webhook.get("methods", ["POST"]))
        headers = [("Host", self._host), ("User-Agent", "fuzz"), *fields, ("X-GitHub-Delivery", "d")]
        if not plain and self._random.random() < 0.1:
            headers.append(pick(ASKED))
        with suppress(InvalidError):  # some can sign no body that is not as it should be, and some can't at all
            headers += sign(kind, secrets, method=method, url=url, body=body, headers=headers, now=time.time())
        target = urlsplit(url)
        lines = [f"{method} {target.path}{'?' if target.query else ''}{target.query} HTTP/1.1".encode()]
        lines += [f"{name}: {value}".encode("utf-8", "replace") for name, value in headers]
        if self._random.random() < 0.7 or not body:
            lines.append(b"Content-Length: %d" % len(body))
        else:
            lines.append(b"Transfer-Encoding: chunked")
            body = self._chunked(body)
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def connection(self) -> tuple[bytes, int]:
        """Return what is sent over one connection, and how many requests that was to be."""
        count = self._random.choice((1, 1, 1, 2, 3, 4))
        return b"".join(self.changed(self.valid(self._random.choice(list(FLOWS)))) for _ in range(count)), count

    def changed(self, request: bytes) -> bytes:
        """Return a request with up to four changes."""
        data = bytearray(request)
        for _ in range(self._random.choice((0, 0, 0, 0, 1, 1, 1, 2, 4))):
            if data:
                self._random.choice(self._mutations)(data)
        return bytes(data)

    def pieces(self, data: bytes) -> list[bytes]:
        """Return data cut into up to five pieces."""
        cuts = sorted(self._random.randrange(len(data) + 1) for _ in range(self._random.choice((0, 0, 1, 4))))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if end > start]

    def _chunked(self, body: bytes) -> bytes:
        size = self._random.choice((1 + len(body) // 3, len(body), 7 + len(body) // 20))
        extension = self._random.choice((b"", b"", b";a=b", b' ; a="b"'))
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
        return chunks + b"0\r\n" + self._random.choice((b"", b"", b"X-Sum: 1\r\n", b"Content-Length: 3\r\n")) + b"\r\n"

    def _place(self, data: bytearray) -> int:
        # mostly in the head, where there is something to break
        end = data.find(b"\r\n\r\n")
        return self._random.randrange(end + 4 if end >= 0 and self._random.random() < 0.8 else len(data))

    def _change_byte(self, data: bytearray) -> None:
        data[self._place(data)] = self._random.choice(BYTES)

    def _drop_bytes(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + self._random.choice((1, 1, 2, 10))]

    def _add_bytes(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = bytes(self._random.choices(BYTES, k=self._random.choice((1, 1, 2, 8))))

    def _repeat_slice(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = data[place : place + self._random.randrange(1, 60)] * self._random.choice((1, 2, 300))

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _change_lines(self, data: bytearray, change: Callable[[list[bytes]], None]) -> None:
        head, separator, body = bytes(data).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        change(lines)
        data[:] = b"\r\n".join(lines) + separator + body

    def _add_line(self, data: bytearray) -> None:
        line = self._random.choice(LINES)
        self._change_lines(data, lambda lines: lines.insert(self._random.randrange(len(lines)) + 1, line))

    def _drop_line(self, data: bytearray) -> None:
        self._change_lines(data, lambda lines: lines.__delitem__(self._random.randrange(len(lines))))

    def _repeat_line(self, data: bytearray) -> None:
        times = self._random.choice((1, 1, 1, 300))
        self._change_lines(data, lambda lines: lines.extend([self._random.choice(lines)] * times))

    def _swap_lines(self, data: bytearray) -> None:
        self._change_lines(data, self._random.shuffle)

    def _change_target(self, data: bytearray) -> None:
        self._change_word(data, 1, self._random.choice(TARGETS))

    def _change_version(self, data: bytearray) -> None:
        versions = (b"HTTP/1.0", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"")
        self._change_word(data, 2, self._random.choice(versions))

    def _change_method(self, data: bytearray) -> None:
        methods = (b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"post", b"P@ST", b"DELETE", b"GET", b"TRACE")
        self._change_word(data, 0, self._random.choice(methods))

    def _change_word(self, data: bytearray, index: int, word: bytes) -> None:
        line, separator, rest = bytes(data).partition(b"\r\n")
        words = line.split(b" ")
        words[index : index + 1] = [word]
        data[:] = b" ".join(words) + separator + rest


_LOUD: Final = re.compile(r'Traceback|"level": ?"(error|critical)"|"exception"|never retrieved|never awaited')
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\x20-\x7e]*")
_FIELD: Final = re.compile(rb"[A-Za-z-]+: ?([\t\x20-\x7e\x80-\xff]*)")


def statuses_of(received: bytes) -> list[int]:
    """Return the statuses of a sequence of responses.

    Raises:
        ValueError: it is none, or its last one is not whole.
    """
    statuses = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        if not end or status is None or not all(_FIELD.fullmatch(line) for line in lines):
            raise ValueError("the head of a response is malformed")
        length = next((int(line[16:]) for line in lines if line.lower().startswith(b"content-length: ")), 0)
        # what follows an answer to HEAD, or to something that became HEAD, is the next answer
        if rest and not rest.startswith(b"HTTP/1.1 "):
            if len(rest) < length:
                raise ValueError("a response is cut off")
            rest = rest[length:]
        statuses.append(int(status[1]))
        received = rest
    return statuses


class Fuzzer:
    """Sends until there were enough requests, or it took long enough."""

    def __init__(self, url: str, *, requests: int, seconds: float, seed: int) -> None:
        """Send at most `requests`, for at most `seconds`, to the edge at `url`."""
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._requests = requests
        self._deadline = time.monotonic() + seconds
        self._random = random.Random(seed)  # noqa: S311 - it is to be repeated
        self.generator = Generator(self._random, parts.netloc)
        self.findings = Findings()

    async def run(self) -> None:
        """Fuzz."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._send_on())

    async def exchange(self, pieces: Sequence[bytes], *, reset: bool = False) -> bytes:
        """Send, end this side, and return all that comes until the edge ends its own.

        Raises:
            TimeoutError: it does not.
            OSError: the connection was reset.
        """
        # each from another address: one has 28,000 ports, and each of them rests for a minute
        local = (f"127.0.0.{self._random.randrange(1, 255)}", 0)
        async with asyncio.timeout(HANG_SECONDS):
            reader, writer = await asyncio.open_connection(*self._address, local_addr=local)
            received = b""
            try:
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0)
                if reset:
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    return b""
                writer.write_eof()
                while data := await reader.read(65536):
                    received += data
            finally:
                writer.close()
            return received

    async def _send_on(self) -> None:
        found = self.findings
        while found.requests < self._requests and time.monotonic() < self._deadline:
            data, count = self.generator.connection()
            pieces = self.generator.pieces(data)
            found.requests += count
            found.connections += 1
            try:
                received = await self.exchange(pieces, reset=self._random.random() < 0.05)
            except TimeoutError:
                found.fail("the edge neither answers nor ends the connection", data)
                continue
            except OSError:  # it may reset what was refused and is still being sent
                found.resets += 1
                continue
            self._judge(data, received)

    def _judge(self, data: bytes, received: bytes) -> None:
        found = self.findings
        try:
            statuses = statuses_of(received)
        except ValueError as error:
            found.fail(str(error), data, received)
            return
        found.statuses.update(statuses)
        if any(status >= 500 and status not in LEGITIMATE_5XX for status in statuses):
            found.fail("a server error", data, received)
        # a request takes 18 bytes at the least
        if sum(status >= 200 for status in statuses) > 1 + len(data) // 18:
            found.fail("more answers than requests", data, received)


async def _set_up(cluster: Cluster) -> None:
    for name, value in SECRETS.items():
        await cluster.client.secrets.set(name, value)
    await cluster.client.flows.apply([_document(name, webhook) for name, webhook in FLOWS.items()])
    for name in FLOWS:
        if name != SEES_ALL:
            await cluster.client.flows.pause(f"fuzz.{name}")


def _document(name: str, webhook: dict[str, Any]) -> bytes:
    head = {"dsl": "1.0.3", "namespace": "fuzz", "name": name, "version": "1.0.0"}
    seen = {"body": "${ .body }", "files": "${ [.attachments[].name] }"} if name == SEES_ALL else {"done": True}
    document: dict[str, Any] = {"document": head, "webhook": webhook, "do": [{"keep": {"set": seen}}]}
    if name == SEES_ALL:
        document["execution"] = {"order_by": "${ .body.a }"}
    return json.dumps(document).encode()  # JSON is YAML


async def _check_afterwards(cluster: Cluster, fuzzer: Fuzzer, edge: int) -> None:
    found = fuzzer.findings
    await _check_executions(cluster, found)
    if cluster.pid("edge-1") != edge:
        found.fail("the edge was restarted")
    async for execution in cluster.client.executions.list(flow_id="fuzz.closed", limit=1):
        found.fail(f"an event of a flow whose credentials nobody has: {execution.id}")
    for name in FLOWS:
        request = fuzzer.generator.valid(name, plain=True)
        received = await fuzzer.exchange([request])
        statuses = statuses_of(received)
        expected = 401 if name == "closed" or name in CANNOT_SIGN else 202
        if statuses != [expected]:
            found.fail(f"a valid request to {name} afterwards: {statuses}", request, received)
    loud = re.compile(
        r'Traceback|"level": ?"(error|critical)"|"exception"|\[error|\[critical|never retrieved|never awaited'
    )
    for line in filter(loud.search, cluster.output):
        found.fail(f"in the log: {line.strip()[:2000]}")


async def _check_executions(cluster: Cluster, found: Findings) -> None:
    """Let the flow that runs end what it has; it takes anything, so that nothing of it may fault."""
    flow_id = f"fuzz.{SEES_ALL}"
    unfinished = (Status.PENDING, Status.RUNNING)
    async with asyncio.timeout(DRAIN_SECONDS):
        while [each async for each in cluster.client.executions.list(flow_id=flow_id, statuses=unfinished, limit=1)]:
            await asyncio.sleep(0.5)
    async for execution in cluster.client.executions.list(flow_id=flow_id, statuses=(Status.FAULTED,), limit=SHOWN):
        found.fail(f"an execution faulted: {execution.id}, {execution.error}")


def _report(found: Findings, seconds: float) -> None:
    print(f"{found.requests:,} requests over {found.connections:,} connections in {seconds:.0f} s")
    print(f"  reset{found.resets:>9,}")
    for status, count in sorted(found.statuses.items()):
        print(f"  {status}  {count:>9,}")
    alike: dict[str, str] = {}
    for failure in found.failures:
        alike.setdefault(re.sub(r"[0-9]+", "", failure), failure)
    for failure in list(alike.values())[:SHOWN]:
        print(f"FAILED: {failure}")
    print(f"{len(found.failures)} failures" if found.failures else "no failures")


async def main() -> int:
    """Fuzz as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="Fuzz the edge of a cluster of its own.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    # what asyncio says of connections that were reset while this side was ending them
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with running_cluster("--runners", "1") as cluster:
        await _set_up(cluster)
        edge = cluster.pid("edge-1")
        fuzzer = Fuzzer(cluster.http, requests=arguments.requests, seconds=arguments.seconds, seed=arguments.seed)
        started = time.monotonic()
        await fuzzer.run()
        await _check_afterwards(cluster, fuzzer, edge)
        _report(fuzzer.findings, time.monotonic() - started)
    return 1 if fuzzer.findings.failures or not fuzzer.findings.statuses[202] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
