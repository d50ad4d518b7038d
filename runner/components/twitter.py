"""`twitter.post`: publish a post on X, formerly Twitter.

The secret is JSON: `{"api_key", "api_key_secret", "access_token", "access_token_secret"}` (OAuth 1.0a user context) or
`{"bearer_token"}` (OAuth 2.0 user context). The API checks the length of the text: its limit depends on the account.

Source: https://docs.x.com/x-api/posts/create-or-edit-post and
https://docs.x.com/x-api/posts/manage-tweets/integrate (authentication); RFC 5849 (OAuth 1.0);
https://docs.x.com/x-api/fundamentals/rate-limits (`x-rate-limit-reset`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import oauthlib.oauth1
from pydantic import BaseModel, TypeAdapter, ValidationError

from flowhook.document.models.calls import TwitterPostArguments
from flowhook.json import object_of
from runner.components.base import Context, component
from runner.interpreter.errors import Kind, fault, shorten
from runner.outbound.http_response import HttpResponse, response_fault, server_time, to_delay_ms


class _UserContext(BaseModel):
    api_key: str
    api_key_secret: str
    access_token: str
    access_token_secret: str


class _BearerToken(BaseModel):
    bearer_token: str


_CREDENTIALS: Final[TypeAdapter[_BearerToken | _UserContext]] = TypeAdapter(_BearerToken | _UserContext)


@component("twitter.post")
async def post(arguments: TwitterPostArguments, context: Context) -> Any:
    """Publish a post; returns `{id, text}` as X answers."""
    credentials = _credentials(await context.secret(arguments.secret), arguments.secret)
    url = context.settings.twitter_base_url.rstrip("/") + "/2/tweets"
    response = await context.http.request(
        "POST", url, headers={"Authorization": _authorization(credentials, url)}, json={"text": arguments.text}
    )
    answer = object_of(response.body) or {}
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:
        kinds = {401: Kind.AUTHENTICATION, 403: Kind.AUTHORIZATION}
        said = next((answer[key] for key in ("detail", "title") if isinstance(answer.get(key), str)), response.reason)
        for value in credentials.model_dump().values():  # in case X echoes them
            said = said.replace(value, "…")
        raise response_fault(
            response,
            kinds.get(response.status, Kind.COMMUNICATION),
            f"X answered {response.status}: {shorten(said)}",
            retry_after_ms=_until_reset(response),
        )
    if not isinstance(answer.get("data"), dict):
        raise fault(Kind.COMMUNICATION, "the response of X has no `data`")
    return answer["data"]


def _until_reset(response: HttpResponse) -> int:
    """Return the milliseconds until the rate limit of the account is reset; 0: unknown."""
    reset = response.headers.get("x-rate-limit-reset", "")
    if response.status != HTTPStatus.TOO_MANY_REQUESTS or not re.fullmatch(r"[0-9]{1,12}", reset):
        return 0
    now = server_time(response.headers.get("Date"), datetime.now(UTC))
    return to_delay_ms(int(reset) - now.timestamp())


def _credentials(secret: bytes, name: str) -> _BearerToken | _UserContext:
    try:
        return _CREDENTIALS.validate_json(secret)
    except ValidationError:
        raise fault(
            Kind.CONFIGURATION,
            f"the secret {name} is not JSON with api_key, api_key_secret, access_token and access_token_secret, "
            "or with bearer_token",
        ) from None


def _authorization(credentials: _BearerToken | _UserContext, url: str) -> str:
    if isinstance(credentials, _BearerToken):
        return f"Bearer {credentials.bearer_token}"
    client = oauthlib.oauth1.Client(
        credentials.api_key,
        client_secret=credentials.api_key_secret,
        resource_owner_key=credentials.access_token,
        resource_owner_secret=credentials.access_token_secret,
    )
    # a JSON body is not part of the signature (RFC 5849, section 3.4.1.3.1)
    _, headers, _ = client.sign(url, http_method="POST")
    return str(headers["Authorization"])
