"""Fuzz the edges of a real cluster: `make fuzz REQUESTS=1000000`.

Valid requests of every kind of `auth`, with bodies of every kind that is parsed or streamed, handshakes, callbacks and
replies are changed at random (bytes or whole lines), concatenated, cut into pieces and sent over raw sockets.
Connections end properly, in the middle of a request, or with a reset. They go to the edge of a local cluster, to one
that fetches keys from a publisher of ours, which misbehaves as well, to one behind the PROXY protocol, and to one with
TLS. Most flows are paused; some are run by runners. The fuzzer fails, with exit code 1, on

- an answer of 5xx other than 503 (and 501, 505, which mean that the request needs an unsupported feature);
- bytes from an edge that are not a sequence of whole HTTP responses, or more of these than there were requests, or
  fewer if all requests were whole and no answer ended the connection;
- a connection that an edge neither answers nor ends within `HANG_SECONDS`;
- an error or a traceback in any process's log, or an edge that ended;
- an execution of a flow that accepts anything, if it faults;
- an event of a flow whose credentials no request has;
- good requests and handshakes after the run that do not get the expected answer.

The bytes that led to a failure are saved in a folder. Ctrl-C or SIGTERM ends the run and prints the results so far.
The printed seed generates the same requests again, except for times, keys and one-time URLs; timing differs.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import ssl
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import uvloop
from support.certificates import Authority
from support.senders import SenderKeys

from fuzz import checks, edges, flows
from fuzz.drafts import Drafts
from fuzz.findings import Findings
from fuzz.plans import Plans
from fuzz.publisher import HOSTS, Publisher, running_publisher
from fuzz.sender import Sender
from harness.cluster import Cluster, running_cluster

PROGRESS_SECONDS: Final = 5.0


async def main() -> int:
    """Fuzz according to the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Fuzz the edges of a cluster of its own.")
    parser.add_argument("--requests", type=int, default=20_000, help="number of answers")
    parser.add_argument("--seconds", type=float, default=7200.0, help="limit of the run")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--save", type=Path, default=Path("fuzz-failures"), help="folder for what led to failures")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    # asyncio reports connections that were reset while this side was ending them
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    findings = Findings(arguments.seed, arguments.save)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        keys, authority = SenderKeys(), Authority(folder)
        publisher = Publisher(keys, random.Random(arguments.seed))
        plain_port, tls_port = await stack.enter_async_context(running_publisher(publisher, _server(authority)))
        cluster = await stack.enter_async_context(running_cluster("--runners", "1", "--allow-private-addresses"))
        webhooks = flows.webhooks(keys, f"http://127.0.0.1:{plain_port}")
        await flows.set_up(cluster, webhooks)
        others = await _edges(stack, cluster, authority, tls_port)
        source = random.Random()
        drafts = Drafts(webhooks, keys, source, f"127.0.0.1:{others[edges.PLAIN].port}")
        plans = Plans(drafts, source, arguments.seed)
        sender = Sender(others, plans, drafts, findings, context=_client(authority))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, setattr, sender, "stopped", True)
        pid, findings.started = cluster.pid("edge-1"), time.monotonic()
        deadline = findings.started + arguments.seconds
        progress = asyncio.create_task(_print_progress(findings, arguments.requests, deadline))
        await sender.run(answers=arguments.requests, deadline=deadline)
        progress.cancel()
        seconds = time.monotonic() - findings.started
        await checks.check(cluster, others, pid, sender, drafts)
        print(findings.report(seconds))
        print(f"documents fetched by edges: {sum(publisher.served.values()):,}")
    return 1 if findings.failures or not findings.statuses[202] else 0


async def _edges(stack: AsyncExitStack, cluster: Cluster, authority: Authority, tls_port: int) -> dict[str, edges.Edge]:
    certificate, key = authority.issue("edge")
    found = {edges.PLAIN: edges.Edge(edges.PLAIN, int(cluster.http.rpartition(":")[2]))}
    for name, environment in (
        (edges.KEYED, {"FUZZ_PUBLISHER_PORT": str(tls_port), "SSL_CERT_FILE": str(authority.ca_file)}),
        (edges.PROXIED, {"FLOWHOOK_PROXY_PROTOCOL": "true", "FLOWHOOK_TRUSTED_PROXIES": "127.0.0.0/8,192.0.2.0/24"}),
        (
            edges.TLS,
            {
                "FLOWHOOK_TLS_CERT_FILE": str(certificate),
                "FLOWHOOK_TLS_KEY_FILE": str(key),
                "FLOWHOOK_TLS_CLIENT_CA_FILE": str(authority.ca_file),
            },
        ),
    ):
        found[name] = await stack.enter_async_context(edges.running_edge(name, cluster, environment))
    return found


async def _print_progress(findings: Findings, wanted: int, deadline: float) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        print(findings.progress(wanted, deadline), flush=True)


def _server(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("publisher", HOSTS))
    return context


def _client(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.load_cert_chain(*authority.issue("sender"))
    return context


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main()))
