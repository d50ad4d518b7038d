"""Refuses flows that share a secret when the handshake of one would sign events of the other.

See `flowhook.document.models.auth`. The check needs all flows, so it can't be part of a document's
validation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from flowhook.document import FlowDocument
from flowhook.document.diagnostics.problems import Code
from flowhook.document.models.auth import kinds_by_secret, parse_auth, secret_misuses
from flowhook.document.models.credentials import AuthKind
from flowhook.errors import Fault, InvalidFlowError
from flowhook.model import Flow
from router.storage.registry import Registry

PAGE: Final = 100  # most definitions read at a time
Uses = Mapping[str, set[str]]  # kinds of `auth` by the name of the secret they verify with


async def check(documents: Sequence[FlowDocument], registry: Registry) -> None:
    """Check documents to be applied against each other, and against all other flows."""
    applied: dict[str, Uses] = {
        document.id: {} if document.webhook is None else kinds_by_secret(document.webhook.all_kinds())
        for document in documents
    }
    secrets = frozenset(name for uses in applied.values() for name in uses)
    if not secrets:
        return
    others = dict(applied)
    after = ""
    while flows := await registry.list_flows(after_id=after, limit=PAGE):
        others |= await asyncio.to_thread(_uses, [flow for flow in flows if flow.id not in applied], secrets)
        after = flows[-1].id
    faults = [
        Fault(str(index), 0, "webhook.auth", cause, Code.SECRET_SHARED)
        for index, document in enumerate(documents)
        for cause in _causes(document.id, applied[document.id], others)
    ]
    if faults:
        raise InvalidFlowError(faults)


def _causes(flow_id: str, uses: Uses, others: Mapping[str, Uses]) -> Iterator[str]:
    """Yield a message for each secret that a flow must not share with another, once for each other flow."""
    for other, theirs in others.items():
        reported: set[str] = set()
        for found in secret_misuses(uses, theirs) if other != flow_id else ():
            if found.secret not in reported:
                reported.add(found.secret)
                yield (
                    f"secret {found.secret} is used by `{found.one}` in flow {flow_id} and by `{found.other}` in flow "
                    f"{other}: the handshake of `{found.signing}` signs text that a caller chooses, which would "
                    f"authenticate as an event of the other flow; use a separate secret for one of them"
                )


def _uses(flows: Sequence[Flow], secrets: frozenset[str]) -> dict[str, Uses]:
    """Return how flows use some secrets; flows that don't use any are left out. Blocking."""
    names = [name.encode() for name in secrets]  # JSON does not escape their characters
    found: dict[str, Uses] = {}
    for flow in flows:
        if flow.has_webhook and any(name in flow.definition for name in names):
            found[flow.id] = kinds_by_secret(_stored_kinds(orjson.loads(flow.definition)))
    return found


def _stored_kinds(definition: Mapping[str, Any]) -> list[AuthKind]:
    """Return the kinds of `auth` in a stored definition; skip those this version can't parse, and so does not serve."""
    webhook = definition.get("webhook") or {}
    kinds: list[AuthKind] = []
    for each in (webhook, *(webhook.get("callbacks") or {}).values()):
        with suppress(ValidationError, PydanticCustomError):
            kinds += parse_auth(each.get("auth"))
    return kinds
