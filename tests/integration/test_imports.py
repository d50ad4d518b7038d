"""What each process of the cluster does without at its start, which is faster so. It imports the rest once it is ready.

What is imported too early shows with `python -X importtime -c 'import edge.app'`.
"""

import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp": "7 MiB and 65 ms: an HTTP client; an edge imports it when it fetches a key",
    "cryptography": "2 MiB and 7 to 16 ms: public keys at an edge, secrets at a router; HMAC does without",
    "joserfc": "4 MiB and 55 ms: `auth: {jwt: …}`",
    "nats": "10 MiB with aiohttp: the client of a replicated log; a router imports it when its storage is one",
    "rich": "4 MiB and 40 ms: what structlog draws tracebacks with, when it finds it; the command line's",
    "typer": "the command line's",
}
"""What it costs, and who needs it when."""

DOCUMENTS = {
    "flowhook.document.loader": "the whole DSL as models, 7 MiB and 90 ms; an edge needs `webhook` alone",
    "jq": "runs expressions",
    "ruamel.yaml": "reads flow files",
}
STORAGE = {"apsw": "the router's alone"}
PAGES = {"jinja2": "the templates of the console; an admin process's alone"}
CLIENTS = {"flowhook.client.aio.client": "the methods of clients; a channel is enough"}
HTTP = {"tornado": "speaks HTTP, at edges and admin processes"}
BODIES = {"flowhook.payloads": "reads what senders send"}

NEEDLESS = {
    "edge.app": HEAVY | DOCUMENTS | STORAGE | CLIENTS | PAGES,
    "router.process.app": HEAVY | CLIENTS | HTTP | PAGES,
    "admin.app": HEAVY | DOCUMENTS | STORAGE | BODIES,
    "runner.app": HEAVY | DOCUMENTS | STORAGE | CLIENTS | HTTP | BODIES | PAGES,
    "runner.worker.fork_server": {"rich": HEAVY["rich"], "typer": HEAVY["typer"]} | STORAGE | HTTP,
    "flowhook.sandbox.process": {"grpc": "opens no connection", "pydantic": "is given no settings"} | STORAGE | HTTP,
    "flowhook.process.lifecycle": HEAVY | DOCUMENTS | STORAGE | CLIENTS | HTTP | BODIES,
}
"""By what a process imports at its start; `flowhook.process.lifecycle` is what all of them have."""


@pytest.mark.parametrize("module", NEEDLESS)
def test_a_process_imports_nothing_large_that_it_does_not_need_at_its_start(module):
    script = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert {name: reason for name, reason in NEEDLESS[module].items() if name in loaded} == {}


@pytest.mark.parametrize("name", sorted({name for needless in NEEDLESS.values() for name in needless}))
def test_what_is_not_needed_is_there(name):
    """Or a misspelled or renamed module would never be found among those that are loaded."""
    done = subprocess.run([sys.executable, "-P", "-c", f"import {name}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
