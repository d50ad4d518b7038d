"""The public API is that of public_api.txt, so that no change to it goes unnoticed.

`FLOWHOOK_RENEW_API=1 .venv/bin/python -m pytest tests/unit/test_public_api.py` renews the file, and fails.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import pytest
from support import pages, public_api

AGREED = Path(__file__).with_name("public_api.txt")
RENEW = "FLOWHOOK_RENEW_API"
HOW = f"{RENEW}=1 .venv/bin/python -m pytest tests/unit/test_public_api.py"
FACTS = [
    "async flowhook.client.AsyncClient.flows.delete(flow_id: str) -> None",
    "flowhook.client.Client.flows.delete(flow_id: str) -> None",
    "flowhook.client.Client.executions.resolve(execution_id: str, reason: str = '') -> Execution",
    "flowhook.client.ReplyPendingError.execution_id: str",
    "class flowhook.errors.ExhaustedError(FlowhookError)",
    "flowhook.errors.ExhaustedError.default_reason = 'EXHAUSTED'",
    "flowhook.errors.ExhaustedError.retry_after: int",
    "flowhook.events.ids.mint(slot: int, *, now_ms: int | None = None) -> str",
    "flowhook.model.Status.PENDING = 'pending'",
    "flowhook.*.Execution.error: WorkflowError | None = None",
    "flowhook.*.Execution.received_at: datetime (property)",
    "flowhook.*.Event.flow_id: str",
    "async flowhook.components.Component.__call__(arguments: Mapping[str, Any], context: Context) -> Any",
    "flowhook.components.Context.idempotency_key: str",
    "flowhook.components.testing.Answer.status: int = 200",
    "flowhook.components.Policy.basic: Basic | None = None",
    "enum flowhook.v1.Disposition.DISPOSITION_PERMANENT = 2",
    "message flowhook.v1.Event.order_key = 13: optional string",
    "message flowhook.v1.IngestEventsResponse.results = 1: repeated flowhook.v1.IngestResult",
    "message flowhook.v1.IngestResult.accepted = 1: flowhook.v1.Accepted (oneof outcome)",
    "message flowhook.v1.ResolveSecretsResponse.values = 1: map<string, bytes>",
    "method flowhook.v1.SecretService.SetSecret(flowhook.v1.SetSecretRequest) returns flowhook.v1.SetSecretResponse",
]
"""Lines of every kind that the text consists of."""


@pytest.fixture(scope="module")
def text():
    return public_api.text()


def test_the_public_api_is_the_one_in_the_file(text):
    if os.environ.get(RENEW) == "1":
        AGREED.write_text(text, encoding="utf-8")
        pytest.fail(f"{AGREED.name} is renewed; read its diff, then run the tests without {RENEW}", pytrace=False)
    agreed = AGREED.read_text(encoding="utf-8") if AGREED.exists() else ""

    changes = list(difflib.unified_diff(agreed.splitlines(), text.splitlines(), AGREED.name, "the code", "", "", 0, ""))

    if changes:
        pytest.fail(
            "the public API is another one than that of the file. If that is meant, say so in CHANGELOG.md,\n"
            f"renew the file by `{HOW}`, and commit it.\n\n" + "\n".join(changes),
            pytrace=False,
        )


@pytest.mark.parametrize("fact", FACTS)
def test_the_text_has_what_users_rely_on(text, fact):
    assert fact in text.splitlines()


def test_the_text_is_the_same_wherever_it_is_made(text):
    assert [line for line in text.splitlines() if re.search(r" at 0x|ForwardRef|\btyping\.", line)] == []


def test_all_that_the_docs_import_is_public_api():
    imported = {
        f"{module}.{name.strip()}"
        for path in (*pages.PAGES, pages.ROOT / "clients" / "python" / "README.md")
        for block in pages.blocks(path)
        for module, names in re.findall(r"^from ((?:flowhook|runner)\b[\w.]*) import (.+)$", block.text, re.MULTILINE)
        for name in names.split(",")
    }

    assert len(imported) > 10
    assert imported - public_api.documented().keys() - public_api.DOCUMENTED.keys() == set()


def test_nothing_outside_of_flowhook_is_promised():
    assert [module for module in public_api.DOCUMENTED if module.partition(".")[0] != "flowhook"] == []
