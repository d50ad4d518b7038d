"""The flows under test: every kind of `auth`, every mode of `respond`, callbacks. Most are paused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from support.senders import SenderKeys

from flowhook.document.models.auth import PROVIDER_KINDS, SIGNING
from harness.cluster import Cluster

NAMESPACE: Final = "fuzz"
SECRETS: Final = {
    "fuzz": b"a secret of the fuzzer",
    **{f"fuzz-{name}": b"a secret of the fuzzer" for name in SIGNING},  # these share no secret with another kind
    "hex": b"00ff" * 16,
    "long": b"a secret of the fuzzer that is long enough for a token",
    "never": b"no request has this one",
}
TOPIC: Final = "arn:aws:sns:eu-central-1:123456789012:fuzz"
WEBHOOK_ID: Final = "8PT597110X687430LKGECATA"
ISSUER, AUDIENCE = "https://fuzz.example", "flowhook"

CLOSED: Final = "closed"
"""The flow whose credentials no request has."""

SEES_ALL: Final = "sees-all"
"""A running flow with expressions over the body in all places that allow them."""

REPLY, LATE, WAITS = "reply", "late", "waits"
RUNNING: Final = frozenset({SEES_ALL, REPLY, LATE, WAITS})
"""Running flows; none of their executions may fault."""

LARGE: Final = ("files", "files-signed", "files-raw", "files-token", "files-limited")
"""Flows that accept large bodies."""

FITTING: Final = "${{ {} | if (tojson | length) < 100000 then . else length end }}"
"""An expression for data, or for their size if they are too large for the output of a task (1 MiB of JSON)."""

TASKS: Final[Mapping[str, list[dict[str, Any]]]] = {
    SEES_ALL: [
        {"keep": {"set": {"body": FITTING.format(".body"), "files": FITTING.format("[.attachments[].name]")}}},
    ],
    REPLY: [{"keep": {"set": {"id": "${ .id }", "kind": "${ .content_type }"}}}],
    LATE: [{"pause": {"wait": {"milliseconds": 400}}}],
    WAITS: [
        {"tell": {"call": "reply", "with": {"body": {"url": "${ $runtime.metadata.callbacks.approval }"}}}},
        {
            "wait": {
                "try": [
                    {"hear": {"listen": {"to": {"one": {"with": {"type": "approval"}}}}, "timeout": {"after": "PT20S"}}}
                ],
                "catch": {"errors": {"with": {"status": 408}}, "do": [{"end": {"set": {"late": True}}}]},
            }
        },
    ],
}


def webhooks(keys: SenderKeys, publisher: str) -> dict[str, dict[str, Any]]:
    """Return the `webhook` of each flow, by name.

    Args:
        keys: the flows trust their public halves.
        publisher: URL of the publisher, over plain HTTP.
    """
    token = {"audience": AUDIENCE, "issuer": ISSUER}
    return {
        **_OPEN,
        **_SHARED,
        **{
            name: {
                "auth": {name: {"secret": f"fuzz-{name}" if name in SIGNING else "fuzz"}},
                "methods": ["POST", "GET"],
            }
            for name in PROVIDER_KINDS
        },
        "paypal": {"auth": {"paypal": {"webhook_id": WEBHOOK_ID}}},
        "aws-sns": {"auth": {"aws-sns": {"topic_arn": TOPIC}}},
        "plaid": {"auth": {"plaid": {"client_id": "fuzz", "secret": "fuzz", "environment": "sandbox"}}},
        "adyen": {"auth": {"adyen": {"secret": "hex"}}},
        "discord": {"auth": {"discord": {"public_key": keys.ed_hex}}},
        "sendgrid": {"auth": {"sendgrid": {"public_key": keys.ec_spki}}},
        "meta": {"auth": {"meta": {"secret": "fuzz", "verify_token": "fuzz"}}, "methods": ["POST", "GET"]},
        "standard-public": {"auth": {"standard-webhooks": {"public_key": keys.ed_base64}}},
        "key-ed": {"auth": {"public_key": {"algorithm": "ed25519", "key": keys.ed_hex, "header": "X-Signature"}}},
        "key-ec": {
            "auth": {
                "public_key": {
                    "algorithm": "ecdsa", "key": keys.ec_spki, "header": "X-Signature", "encoding": "base64",
                }
            }
        },
        "key-rsa": {
            "auth": {
                "public_key": {
                    "algorithm": "rsa", "key": keys.rsa_pem, "header": "X-Signature", "encoding": "base64url",
                }
            }
        },
        "jwt-shared": {"auth": {"jwt": {"secret": "long"}}},
        "jwt-pem": {"auth": {"jwt": {"public_key": keys.token_pem, "header": "X-Token", **token}}},
        "jwks": {"auth": {"jwt": {"jwks": f"{publisher}/jwks/good", **token}}},
        "jwks-broken": {"auth": {"jwt": {"jwks": f"{publisher}/jwks/broken", **token}}},
        "jwks-otherKey": {"auth": {"jwt": {"jwks": f"{publisher}/jwks/otherKey", **token}}},
        "mtls": {"auth": [{"mtls": {"names": ["sender"]}}, {"basic": {"username": "bank", "secret": "fuzz"}}]},
    }  # fmt: skip


_OPEN: Final[dict[str, dict[str, Any]]] = {
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
    "small": {"auth": "none", "max_body": "64B"},
    "raw": {"auth": "none", "parse": "raw"},
    "limited": {"auth": "none", "rate_limit": {"per_second": 5}, "sender_rate_limit": {"per_second": 1}},
    "near": {"auth": "none", "allow_from": ["127.0.0.0/25", "192.0.2.0/24", "2001:db8::/32"]},
    SEES_ALL: {
        "auth": "none",
        "respond": {"body": {"body": "${ .body }", "a": "${ .body.a.b }"}, "headers": {"X-A": '${ "\\(.body.a)" }'}},
        "dedupe": {"key": "${ .body.id }", "window": "PT1S"},
    },
    REPLY: {"auth": "none", "respond": {"mode": "reply"}},
    LATE: {"auth": "none", "respond": {"mode": "reply", "timeout": "PT0.2S"}},
    WAITS: {
        "auth": "none",
        "respond": {"mode": "reply"},
        "callbacks": {"approval": {"methods": ["POST", "PUT", "GET"]}},
    },
    "files": {"auth": "none", "max_body": "64MiB", "methods": ["POST", "PUT"]},
    "files-raw": {"auth": "none", "max_body": "64MiB", "parse": "raw"},
    "files-limited": {"auth": "none", "max_body": "1300KiB"},
    "files-signed": {"auth": {"hmac": {"secret": "fuzz", "header": "X-Signature"}}, "max_body": "64MiB"},
    "files-token": {"auth": {"jwt": {"secret": "long"}}, "max_body": "64MiB"},
}
_SHARED: Final[dict[str, dict[str, Any]]] = {
    "basic": {"auth": {"basic": {"username": "bank", "secret": "fuzz"}}},
    "key": {"auth": {"api_key": {"header": "X-Api-Key", "secret": "fuzz"}}, "keep_rejected_bodies": True},
    "query": {"auth": {"api_key": {"query": "api_key", "secret": "fuzz"}}, "subpaths": True},
    "standard": {"auth": {"standard-webhooks": {"secrets": ["fuzz", "never"]}}},
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
    "pairs": {
        "auth": {
            "hmac": {
                "secret": "fuzz",
                "header": "X-Signature",
                "layout": "pairs",
                "prefix": "sig",
                "algorithm": "sha512",
                "encoding": "base64url",
                "content": "{timestamp}:{path}:{decoded_url}:{body_crc32}:{body}",
                "timestamp": {"pair": "t", "unit": "ms"},
            }
        },
        "keep_rejected_bodies": True,
    },
    "numbered": {
        "auth": {"hmac": {"secret": "fuzz", "numbered_header": "X-Sig-", "layout": "commas", "content": "{form}{url}"}}
    },
    "several": {
        "auth": [
            {"github": {"secret": "fuzz"}},
            {"basic": {"username": "bank", "secret": "fuzz"}},
            {"jwt": {"secret": "long"}},
            {"adyen": {"secret": "hex"}},
            {"hmac": {"secret": "fuzz", "field": "proof.sig", "content": "{field:a}{url}"}},
        ],
        "keep_rejected_bodies": True,
    },
    CLOSED: {
        "auth": [
            {"hmac": {"secret": "never", "header": "X-Signature"}},
            {"basic": {"username": "bank", "secret": "never"}},
            {"api_key": {"header": "X-Api-Key", "secret": "never"}},
        ]
    },
}


async def set_up(cluster: Cluster, flows: Mapping[str, Mapping[str, Any]]) -> None:
    """Apply all flows and secrets, and pause the flows that are not in `RUNNING`."""
    for name, value in SECRETS.items():
        await cluster.client.secrets.set(name, value)
    await cluster.client.flows.apply([document(name, webhook) for name, webhook in flows.items()])
    for name in flows:
        if name not in RUNNING:
            await cluster.client.flows.pause(f"{NAMESPACE}.{name}")


def document(name: str, webhook: Mapping[str, Any]) -> bytes:
    """Return the flow file of a flow with this `webhook`."""
    head = {"dsl": "1.0.3", "namespace": NAMESPACE, "name": name, "version": "1.0.0"}
    tasks = TASKS.get(name, [{"keep": {"set": {"done": True}}}])
    document: dict[str, Any] = {"document": head, "webhook": webhook, "do": tasks}
    if name == SEES_ALL:
        document["execution"] = {"order_by": "${ .body.a }"}
    return json.dumps(document).encode()  # JSON is YAML
