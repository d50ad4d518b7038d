"""The authentication policies of a call, resolved: credentials instead of the name of a secret.

Source: dsl-reference.md, "Authentication"; dsl.md, "Authorization Descriptor"; RFC 7617 (Basic), RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from runner.interpreter.errors import Kind, fault


def resolve(policy: Mapping[str, Any], secrets: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a policy with its credentials, and `$authorization`.

    Args:
        policy: `basic` or `bearer`, evaluated: with credentials, or with the secret that holds them.
        secrets: `$secrets`.

    Raises:
        TaskFault: what there is are no such credentials (configuration); the message does not show them.
    """
    if "basic" in policy:
        given = _given("basic", policy, secrets)
        username, password = _text("basic", given, "username"), _text("basic", given, "password")
        if ":" in username:
            raise fault(Kind.CONFIGURATION, "`authentication.basic`: a username has no colon")
        parameter = base64.b64encode(f"{username}:{password}".encode()).decode()
        return {"basic": {"username": username, "password": password}}, {"scheme": "Basic", "parameter": parameter}
    token = _text("bearer", _given("bearer", policy, secrets), "token")
    return {"bearer": {"token": token}}, {"scheme": "Bearer", "parameter": token}


def _given(scheme: str, policy: Mapping[str, Any], secrets: Mapping[str, Any]) -> Mapping[str, Any]:
    credentials: Mapping[str, Any] = policy[scheme]
    if "use" not in credentials:
        return credentials
    secret = secrets.get(credentials["use"])
    if isinstance(secret, Mapping):
        return secret
    return {"token": secret} if scheme == "bearer" else {}


def _text(scheme: str, credentials: Mapping[str, Any], name: str) -> str:
    value = credentials.get(name)
    if isinstance(value, str):
        return value
    raise fault(Kind.CONFIGURATION, f"`authentication.{scheme}`: there is no {name}, or it is not a text")
