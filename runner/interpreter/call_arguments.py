"""Arguments of the DSL's own functions: where endpoints and policies are in them, URI templates, credentials.

Source: dsl-reference.md, "HTTP Call", "gRPC Call", "OpenAPI Call", "Script Process", "External Resource", "Endpoint",
"Authentication", "URI Template"; dsl.md, "Authorization Descriptor".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from flowhook.expressions.syntax import is_expression
from runner.interpreter.errors import ExpressionFailed, Kind, fault

ArgumentPath = tuple[str, ...]  # keys from `with` down to a value

POLICY_URIS: Final[tuple[ArgumentPath, ...]] = (
    ("oauth2", "authority"),
    ("oauth2", "endpoints", "token"),
    ("oidc", "authority"),
)
"""The URI templates in a policy."""


def put(arguments: Mapping[str, Any], place: ArgumentPath, value: Any) -> dict[str, Any]:
    """Return a copy of the arguments with another value at a place; all values above it must be mappings."""
    key, *rest = place
    return {**arguments, key: put(arguments[key], tuple(rest), value) if rest else value}


Expand = Callable[[Any], str]  # returns the URI for the task's input; raises ExpressionFailed

_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")


def compile_uri(uri: str) -> Expand | None:
    """Return a function that expands `uri`; None if it has no variables, or is a runtime expression.

    A value cannot leave its path segment: `/` is encoded, and a value that makes the segment `.` or `..` is rejected.
    Encoding would not help there: dots are unreserved, so `%2E` is equivalent and may be normalized on the way.

    Source: RFC 6570, section 3.2.2; RFC 3986, sections 2.3 and 6.2.2.
    """
    if is_expression(uri) or not _VARIABLE.search(uri):
        return None

    path = re.split(r"[?#]", uri, maxsplit=1)[0]
    segments = [segment for segment in path.split("/") if _VARIABLE.search(segment)]

    def expand(data: Any) -> str:
        values = data if isinstance(data, dict) else {}

        def fill(template: str) -> str:
            return _VARIABLE.sub(lambda match: _scalar_text(match[1], values.get(match[1])), template)

        for segment in segments:
            if unquote(fill(segment)) in (".", ".."):
                raise ExpressionFailed(f"{segment} must not become `.` or `..`, which would change the path")
        return fill(uri)

    return expand


def _scalar_text(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return quote(str(value), safe="-._~")
    raise ExpressionFailed(f"{{{name}}} is an {'array' if isinstance(value, list) else 'object'}; a URI needs a scalar")


def resolve(policy: Mapping[str, Any], secrets: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Return an evaluated policy with its credentials in place of the name of a secret, and `$authorization`.

    The component validates `oauth2` and `oidc` policies and also fetches the token. The interpreter must not: a replay
    is deterministic only without the token, and the journal must not hold it.
    `$authorization.parameter` is None where it is not known before the call: `digest`, `oauth2` and `oidc`.
    TaskFault: the credentials are missing or malformed (configuration); the message does not show them.
    """
    ((scheme, _),) = policy.items()
    given = _given(scheme, policy, secrets)
    match scheme:
        case "basic" | "digest":
            username, password = _credential(scheme, given, "username"), _credential(scheme, given, "password")
            if ":" in username:
                raise fault(Kind.CONFIGURATION, f"`authentication.{scheme}`: the username must not contain a colon")
            encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
            parameter = encoded if scheme == "basic" else None
            credentials = {"username": username, "password": password}
            return {scheme: credentials}, {"scheme": scheme.capitalize(), "parameter": parameter}
        case "bearer":
            token = _credential(scheme, given, "token")
            return {"bearer": {"token": token}}, {"scheme": "Bearer", "parameter": token}
    return {scheme: dict(given)}, {"scheme": "Bearer", "parameter": None}


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


def _credential(scheme: str, credentials: Mapping[str, Any], name: str) -> str:
    value = credentials.get(name)
    if isinstance(value, str):
        return value
    raise fault(Kind.CONFIGURATION, f"`authentication.{scheme}`: {name} is missing, or not a string")
