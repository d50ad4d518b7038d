"""Where an OpenID provider takes requests for tokens.

Source: OpenID Connect Discovery 1.0, sections 4.1 (request), 4.2 (response) and 4.3 (validation).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from runner.interpreter.errors import Kind, fault

WELL_KNOWN: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Provider:
    """What of a provider's configuration is needed."""

    issuer: str
    token_endpoint: str


def configuration_url(authority: str) -> str:
    """Return where the configuration of an authority is; it may be given as that already."""
    return authority if authority.endswith(WELL_KNOWN) else authority.rstrip("/") + WELL_KNOWN


def parse_configuration(body: bytes, authority: str, issuers: Collection[str]) -> Provider:
    """Return what a provider says of itself.

    Args:
        body: of the answer.
        authority: that was asked, in either form.
        issuers: that may answer; without any, the authority alone.

    Raises:
        TaskFault: it is another issuer's configuration (authentication), or none (communication).
    """
    try:
        said: Any = orjson.loads(body)
        issuer, endpoint = said["issuer"], said["token_endpoint"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        issuer = endpoint = None
    if not isinstance(issuer, str) or not isinstance(endpoint, str):
        raise fault(Kind.COMMUNICATION, "the OpenID provider's configuration has no `issuer` and `token_endpoint`")
    expected = issuers or {authority.removesuffix(WELL_KNOWN).rstrip("/")}
    if issuer not in expected and issuer.rstrip("/") not in expected:
        raise fault(Kind.AUTHENTICATION, "the OpenID provider calls itself by another issuer's name; see `issuers`")
    if urlsplit(authority).scheme == "https" and urlsplit(endpoint).scheme != "https":
        raise fault(Kind.AUTHENTICATION, "the OpenID provider's token endpoint is not https")
    return Provider(issuer, endpoint)
