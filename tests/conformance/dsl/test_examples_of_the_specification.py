"""Every document among the specification's examples loads, or is refused by the name of what is not supported."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flowhook.document import canonical, load_definition, parse
from flowhook.errors import InvalidFlowError

SPECIFICATION = Path(__file__).parents[4] / ".mirror" / "serverlessworkflow+specification" / "repo"

pytestmark = pytest.mark.skipif(not SPECIFICATION.is_dir(), reason="no specification beside the clone")

ASYNCAPI = (
    "do[0].getNotifications.call",
    "AsyncAPI calls are not supported: there are no connections to message brokers",
)
CONTAINER = "containers are not supported: whoever may start them"

REFUSED = {
    "call-asyncapi-publish": ("do[0].findPet.call", ASYNCAPI[1]),
    "call-asyncapi-subscribe-consume-amount": ASYNCAPI,
    "call-asyncapi-subscribe-consume-forever-foreach": ASYNCAPI,
    "call-asyncapi-subscribe-consume-until": ASYNCAPI,
    "call-asyncapi-subscribe-consume-while": ASYNCAPI,
    "call-custom-function-cataloged": (
        "do[0].log.call",
        "catalogs are not supported: what a flow runs would be fetched",
    ),
    "call-grpc": ("do[0].greet.with.proto.endpoint", "files are not read"),
    "call-mcp": ("do[0].publishMessageToSlack.call", "MCP calls are not supported: they keep a session with a server"),
    "run-container": ("do[0].runContainer.run.container", CONTAINER),
    "run-container-cleanup-always": ("do[0].runContainer.run.container", CONTAINER),
    "run-container-cleanup-eventually": ("do[0].runContainer.run.container", CONTAINER),
    "run-container-stdin-and-arguments": ("do[1].runContainer.run.container", CONTAINER),
    "run-container-with-name": ("do[0].runContainer.run.container", CONTAINER),
    "run-container-with-pull-policy": ("do[0].runContainer.run.container", CONTAINER),
    "run-return-all": ("do[0].runContainer.run.container", CONTAINER),
    "run-return-code": ("do[0].runContainer.run.container", CONTAINER),
    "run-return-none": ("do[0].runContainer.run.container", CONTAINER),
    "run-return-stderr": ("do[0].runContainer.run.container", CONTAINER),
}
"""Key and beginning of the cause; all others load."""


def git(*arguments):
    return subprocess.run(["git", "-C", SPECIFICATION, *arguments], check=True, capture_output=True).stdout


def test_each_loads_or_names_what_is_not_supported():
    names = git("ls-tree", "--name-only", "-z", "HEAD", "examples/").decode().split("\0")
    examples = {Path(name).stem: name for name in names if name.endswith(".yaml")}
    assert REFUSED.keys() < examples.keys()
    for stem, name in examples.items():
        text = git("show", f"HEAD:{name}")
        if stem not in REFUSED:
            document = parse(text, file=name, functions=set())
            assert load_definition(canonical(document.definition)) == document
            continue
        with pytest.raises(InvalidFlowError) as refusal:
            parse(text, file=name, functions=set())
        (fault,) = refusal.value.faults
        key, cause = REFUSED[stem]
        assert (fault.key, fault.line > 0, fault.cause.startswith(cause)) == (key, True, True), fault
