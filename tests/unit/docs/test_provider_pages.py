"""docs/providers has a page for each provider: what is written by hand, then what its row, sample and vectors say.

`FLOWHOOK_RENEW_DOCS=1` renews what is generated, from the heading `Set-up` on, and the table of docs/senders.md.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit

from conformance.signatures.test_vectors import VECTORS, the_kind, the_request, the_secrets, with_keys
from support import pages
from support.cases import cases

from cli.commands.new import flow_text
from flowhook.providers import PROVIDERS
from flowhook.providers.sample_files import all_samples
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.types import SignatureError
from operations.provider_setup import webhook_settings

FOLDER = pages.DOCS / "providers"
SENDERS = pages.DOCS / "senders.md"
BY_HAND = re.compile(r"# .+?(?=\n## Set-up\n|\Z)", re.DOTALL)
WITHOUT_SCHEME = {
    "aws-sns": ("`Signature` in the body", "`MessageId`"),
    "paypal": ("`PAYPAL-TRANSMISSION-SIG`", "`PAYPAL-TRANSMISSION-ID`"),
    "plaid": ("`Plaid-Verification`", "", "5 minutes"),
}
URL = re.compile(r"https://HOST[\w/?=-]+")
A_DAY = 86_400


def fence(language, text):
    return f"```{language}\n{text.rstrip()}\n```"


def generated(provider, title):
    """Return what follows the text by hand on the page of a provider."""
    samples = [sample for sample in all_samples() if sample.provider == provider]
    text = flow_text(f"my-{provider}", samples[0], "schema.json")
    steps = re.findall(r"^  # - ([A-Z].+)$", URL.sub(r"`\g<0>`", text.partition("\ndo:")[0]), re.MULTILINE)
    kept = text.partition("      set:\n")[2].partition("  # Then")[0].rstrip()
    commands = "\n".join(re.findall(r"^#   (flowhook .+)$", text, re.MULTILINE))
    kinds = ", ".join(f"`{sample.name}` ({sample.title})" for sample in samples)
    return f"""
## Set-up

`HOST` is the name that the internet knows your edges by, or that of a [tunnel](../commands.md#a-tunnel).

{"".join(f"{number}. {step}{chr(10)}" for number, step in enumerate(steps, 1))}
## Try it without {title}

`flowhook new my-{provider} --provider {provider}` writes a flow with this `auth`, these steps and a test of it.
Then:

{fence("", commands)}

Samples: {kinds}. [What {title} says about its events]({samples[0].source}).

{fence("json" if is_json(samples[0].body) else "", samples[0].body)}

The flow that `new` writes keeps these values of it:

{fence("yaml", f"do:{chr(10)}  - keep:{chr(10)}      set:{chr(10)}{kept}")}

## What is refused

The sender gets 401 with no cause. `flowhook requests`, `flowhook rejections show`, `flowhook verify` and the
[console](../console.md#requests) show the cause:

| what is wrong | reason | detail |
|---|---|---|
{chr(10).join(refusals(provider))}

[Every reason](../http.md#why-a-request-was-401), and [what to do](../troubleshooting.md#a-webhook-is-refused-with-401).
[How {title} signs]({PROVIDERS[provider].source}), by its own documentation.

## Handshake

{handshake(provider)}
"""


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def refusals(provider):
    """Yield the rows of a table: requests that are refused, with the reasons that verification gives for them."""
    own = [vector for vector in VECTORS if list(vector["auth"]) == [provider]]
    valid = next(vector for vector in own if "match" in vector)
    invalid = [vector for vector in own if vector.get("reason") == "SIGNATURE_MISMATCH"]
    ours = valid | {"auth": webhook_settings(provider, f"my-{provider}-secret")["auth"]}
    tried = [
        (
            "another secret or key, or a changed request",
            refused(invalid[0]) if invalid else refused(valid, body=f"{valid['body']} ".encode()),
        ),
        ("no signature", refused(valid, headers=[], query="", body=b"{}")),
        ("the secret is not set", refused(ours, secrets={})),
        ("it is a day late", refused(valid, later=A_DAY)),
    ]
    for what, error in tried:
        if error is not None:
            yield f"| {what} | `{error.reason}` | {error.detail} |"


def refused(vector, *, secrets=None, later=0.0, **changed):
    (verifier,) = build_verifiers([the_kind(vector)], the_secrets(vector) if secrets is None else secrets)
    request = with_keys(vector, verifier, the_request(vector))
    try:
        verifier.verify(request._replace(**changed), vector["now"] + later)
    except SignatureError as error:
        return error
    return None


def handshake(provider):
    if PROVIDERS[provider].handshake is None:
        return "There is none: nothing is asked when the URL is entered."
    (row,) = (row for row in pages.rows(SENDERS.read_text(encoding="utf-8")) if f"`{provider}`" in row[0].split())
    links = [re.sub(r"\]\((\w)", r"](../\1", cell) for cell in row]
    said = f"The request: {links[1]}.\n\nThe answer: {links[2]}.\n\n"
    return f"{said}[Handshakes](../senders.md#handshakes) start nothing."


def table():
    """Return the table of docs/senders.md."""
    yield "| provider | signature | not older than | delivery ID | handshake |"
    yield "|---|---|---|---|---|"
    for name, row in sorted(PROVIDERS.items()):
        found, delivery, oldest = (*WITHOUT_SCHEME.get(name, ()), "", "", "")[:3]
        if row.scheme is not None:
            found = " or ".join(location(each.signature) for each in (row.scheme.locations, *row.scheme.alternatives))
            delivery = " or ".join(map(location, row.scheme.delivery_locations))
            finite = row.scheme.locations.timestamp is not None and row.scheme.tolerance < 1e9
            oldest = duration(row.scheme.tolerance) if finite else ""
        yield f"| [{name}](providers/{name}.md) | {found} | {oldest} | {delivery} | {'yes' if row.handshake else ''} |"


def duration(seconds):
    number, unit = (seconds / 3600, "hour") if seconds > 3600 else (seconds / 60, "minute")
    return f"{number:.0f} {unit}{'s' if number > 1 else ''}"


def location(each):
    of = {"header": "", "numbered": " to `-16`", "query": " in the query", "field": " in the body"}
    return f"`{each.name}`{of[each.kind]}"


@cases("provider", sorted(PROVIDERS))
def test_the_page_of_a_provider_says_what_its_row_its_sample_and_its_vectors_do(provider):
    path = FOLDER / f"{provider}.md"
    text = path.read_text(encoding="utf-8")
    title = text.partition("\n")[0].removeprefix("# ")
    whole = BY_HAND.match(text)[0].rstrip() + "\n" + generated(provider, title)
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        path.write_text(whole, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == whole, "renew it with FLOWHOOK_RENEW_DOCS=1"
    assert urlsplit(PROVIDERS[provider].source).scheme == "https"


def test_there_is_no_page_of_another_provider():
    assert {path.stem for path in FOLDER.glob("*.md")} == PROVIDERS.keys()


def test_the_table_of_providers_says_what_their_rows_do():
    text = SENDERS.read_text(encoding="utf-8")
    before, heading, rest = text.partition("\n## Providers\n")
    whole = before + heading + "\n" + "\n".join(table()) + "\n\n## " + rest.partition("\n## ")[2]
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        SENDERS.write_text(whole, encoding="utf-8")
    assert SENDERS.read_text(encoding="utf-8") == whole, "renew it with FLOWHOOK_RENEW_DOCS=1"
