"""Resolution of a call's authentication policies: replaces the name of a secret with its credentials.

The component validates `oauth2` and `oidc` policies and also fetches the token. The interpreter must not: a replay is
deterministic only without the token, and the journal must not hold it.

Source: dsl-reference.md, "Authentication"; dsl.md, "Authorization Descriptor"; RFC 7617 (Basic), RFC 6750 (Bearer),
RFC 7616 (Digest).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from runner.interpreter.errors import Kind, fault


def resolve(policy: Mapping[str, Any], secrets: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Return a policy with its credentials, and `$authorization`.

    `$authorization.parameter` is None where it is not known before the call: `digest`, `oauth2` and `oidc`.

    Args:
        policy: evaluated policy, with credentials or with the name of the secret that holds them.
        secrets: `$secrets`.

    Raises:
        TaskFault: the credentials are missing or malformed (configuration); the message does not show them.
    """
    ((scheme, _),) = policy.items()
    given = _given(scheme, policy, secrets)
    match scheme:
        case "basic" | "digest":
            username, password = _text(scheme, given, "username"), _text(scheme, given, "password")
            if ":" in username:
                raise fault(Kind.CONFIGURATION, f"`authentication.{scheme}`: the username must not contain a colon")
            encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
            authorization = ("Basic", encoded) if scheme == "basic" else ("Digest", None)
            return {scheme: {"username": username, "password": password}}, _descriptor(*authorization)
        case "bearer":
            token = _text(scheme, given, "token")
            return {"bearer": {"token": token}}, _descriptor("Bearer", token)
    return {scheme: dict(given)}, _descriptor("Bearer", None)


def _descriptor(scheme: str, parameter: str | None) -> dict[str, str | None]:
    return {"scheme": scheme, "parameter": parameter}


def _given(scheme: str, policy: Mapping[str, Any], secrets: Mapping[str, Any]) -> Mapping[str, Any]:
    credentials: Mapping[str, Any] = policy[scheme]
    if "use" not in credentials:
        return credentials
    name = credentials["use"]
    secret = secrets.get(name)
    if isinstance(secret, Mapping):
        return secret
    if scheme == "bearer":
        return {"token": secret}
    raise fault(Kind.CONFIGURATION, f"`authentication.{scheme}`: the secret {name} is not a JSON object")


def _text(scheme: str, credentials: Mapping[str, Any], name: str) -> str:
    value = credentials.get(name)
    if isinstance(value, str):
        return value
    raise fault(Kind.CONFIGURATION, f"`authentication.{scheme}`: {name} is missing, or not a string")
