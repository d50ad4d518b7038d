"""docs/conformance.md says what the tests in conformance/dsl show. `FLOWHOOK_RENEW_DOCS=1` renews it."""

from __future__ import annotations

import os
from pathlib import Path

from conformance.dsl.test_conformance_kit import SCENARIOS
from conformance.dsl.test_examples_of_the_specification import FLAWED, JUDGED, OURS, REFUSED, fault_of, ours
from support.specification import COMMIT, DATE

from flowhook.document.diagnostics.rules import unsupported

PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"
REPOSITORY = "https://github.com/open-workflow-specification/specification"

TEXT = f"""# Conformance

This page says how far Flowhook runs what Open Workflow (formerly CNCF Serverless Workflow) defines,
for authors who bring documents from elsewhere. It refers to the [standard's repository]({REPOSITORY}/tree/{COMMIT})
as of {DATE}, which is later than its last release, 1.0.3. A document says `dsl: 1.0.x`; what
the repository adds to 1.0.3 is understood in each.

The page is generated from what the tests of `tests/conformance/dsl` expect. Where the environment
variable `OPEN_WORKFLOW_SPECIFICATION` names a copy of the repository, these execute the scenarios
and the examples as published; the hosts that scenarios call are replaced by servers of the tests,
and calls of examples are answered by the tests. Without a copy, they execute the scenarios, and
show what examples are refused for, by documents of our own.

## The conformance kit

{{passing}} of {{scenarios}} scenarios pass.

| scenario | result |
|---|---|
{{kit}}

## The examples

{{running}} of {{examples}} examples run. {{flawed}} of these end otherwise than their text suggests, as we read the
reference; the reason stands beside them. The others are refused when they are applied, with the
key, the [code](flow-problems.md) and the cause that are given here.

| example | result |
|---|---|
{{table}}

## What is refused

| key | why |
|---|---|
{{refused}}
| `evaluate` | only jq is supported, and only `strict`, in which expressions are written `${{{{ … }}}}` |
| `endpoint` and other URIs that are called | relative references are permitted, and nothing says of which base |
"""


def page() -> str:
    kit = [f"| {name} | passes |" for name in SCENARIOS]
    table = []
    for stem in sorted(JUDGED):
        if stem in REFUSED:
            key, code = REFUSED[stem]
            result = f"refused: `{key}`, `{code}`: {fault_of(ours(OURS[stem]), 'ours.yaml').cause}"
        else:
            result = f"runs, but {FLAWED[stem]}" if stem in FLAWED else "runs"
        table.append(f"| {stem} | {result} |")
    return TEXT.format(
        passing=len(kit),
        scenarios=len(SCENARIOS),
        kit="\n".join(kit),
        running=len(JUDGED) - len(REFUSED),
        examples=len(JUDGED),
        flawed=len(FLAWED),
        table="\n".join(table),
        refused="\n".join(f"| `{key}` | {cause} |" for key, cause in refused().items()),
    )


def refused() -> dict[str, str]:
    places = {"run": unsupported.PROCESSES, "authentication": unsupported.AUTHENTICATIONS}
    found = {f"{place}.{key}": cause for place, causes in places.items() for key, cause in causes.items()}
    found |= {f"call: {name}": cause for name, cause in unsupported.FUNCTIONS.items()}
    return found | {".".join(keys): cause for keys, cause in unsupported.KEYS.items()}


def test_the_page_says_what_the_tests_show():
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "renew it with FLOWHOOK_RENEW_DOCS=1"
