"""The secrets that a definition names, in `auth`, in `use.secrets` and in calls."""

from __future__ import annotations

from support.cases import cases

from flowhook.document.loader import canonical, parse
from flowhook.document.named_secrets import names_of, parse_names, secret_paths

HEAD = "document: {dsl: 1.0.3, namespace: default, name: a, version: 1.0.0}\n"
POST = "call: twitter.post, with: {text: x"


@cases(
    ("text", "verifying", "expressions", "calls"),
    [
        ("do: [{a: {POST}}}]", "", "", "twitter"),
        ("do: [{a: {POST, secret: mine}}}]", "", "", "mine"),
        ("do: [{a: {POST, secret: '${ .name }'}}}]", "", "", ""),
        ("do: [{a: {call: email.send, with: {to: a@x.y, from: a@x.y, subject: s, text: t}}}]", "", "", "smtp"),
        ("do: [{a: {call: webhook.send, with: {url: 'https://x.y', body: 1, secret: hook}}}]", "", "", "hook"),
        ("do: [{a: {call: http, with: {method: get, endpoint: 'https://x.y'}}}]", "", "", ""),
        ("use: {functions: {f: {POST}}}}\ndo: [{a: {call: f}}]", "", "", "twitter"),
        ("do: [{a: {try: [{b: {POST}}}], catch: {do: [{c: {POST, secret: c}}}]}}}]", "", "", "c twitter"),
        (
            "webhook: {auth: {github: {secret: hub}}}\nuse: {secrets: [key]}\ndo: [{a: {POST}}}]",
            "hub",
            "key",
            "twitter",
        ),
    ],
)
def test_they_are_found_in_auth_in_expressions_and_in_calls(text, verifying, expressions, calls):
    document = parse((HEAD + text.replace("POST", POST)).encode())
    found = parse_names(canonical(document.definition))
    assert [" ".join(sorted(each)) for each in found] == [verifying, expressions, calls]
    assert names_of(document) == found.all


def test_each_is_found_at_its_place():
    text = "do: [{a: {POST}}}, {b: {POST, secret: mine}}}]".replace("POST", POST)
    document = parse((HEAD + text).encode())
    assert list(secret_paths(document.definition, {"twitter", "mine"})) == [
        (("do", 0, "a", "call"), "twitter"),
        (("do", 1, "b", "with", "secret"), "mine"),
    ]
