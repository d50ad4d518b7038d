"""Discovery of the token endpoint of an OpenID provider.

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
class ProviderMetadata:
    """The part of a provider's configuration that is used."""

    issuer: str
    token_endpoint: str


def configuration_url(authority: str) -> str:
    """Return the URL of the configuration of an authority; `authority` may be that URL already."""
    return authority if authority.endswith(WELL_KNOWN) else authority.rstrip("/") + WELL_KNOWN


def parse_configuration(body: bytes, authority: str, issuers: Collection[str]) -> ProviderMetadata:
    """Parse the configuration of a provider.

    Args:
        body: body of the response.
        authority: the requested authority, in either form.
        issuers: accepted issuers; empty: only the authority.

    Raises:
        TaskFault: it is the configuration of another issuer, or its token endpoint is not https although the
            authority is (authentication); or it is no configuration (communication).
    """
    try:
        configuration: Any = orjson.loads(body)
        issuer, endpoint = configuration["issuer"], configuration["token_endpoint"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        issuer = endpoint = None
    if not isinstance(issuer, str) or not isinstance(endpoint, str):
        raise fault(Kind.COMMUNICATION, "the OpenID provider's configuration lacks `issuer` or `token_endpoint`")
    expected = issuers or {authority.removesuffix(WELL_KNOWN).rstrip("/")}
    if issuer not in expected and issuer.rstrip("/") not in expected:
        raise fault(
            Kind.AUTHENTICATION,
            "the issuer in the OpenID provider's configuration is not the authority; list it under `issuers`",
        )
    if urlsplit(authority).scheme == "https" and urlsplit(endpoint).scheme != "https":
        raise fault(
            Kind.AUTHENTICATION, "the token endpoint in the OpenID provider's configuration is not an https URL"
        )
    return ProviderMetadata(issuer, endpoint)
