"""Takes the values of secrets out of texts that people get to see: errors and what is stored of them.

Authors are free to use a secret in an expression, and servers are free to repeat what they were sent; neither may
bring it into an error, and with it into storage, logs and terminals.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote

from flowhook.model import WorkflowError

MASK: Final = "…"

MIN_LENGTH: Final = 4
"""Characters of a text that is taken out: a shorter one is no secret, and messages without it would be riddles."""


def redact(text: str, secrets: Any) -> str:
    """Return `text` without the texts in `secrets` (JSON): as they are, as JSON writes them, or as a URL does."""
    for value in sorted(_spellings(secrets), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def redact_error(error: WorkflowError, secrets: Any) -> WorkflowError:
    """Return `error` without the texts in `secrets`; see `redact`."""
    if not secrets:
        return error
    type_, title, detail = (redact(text, secrets) for text in (error.type, error.title, error.detail))
    response = error.response
    if response is not None:
        response = response._replace(url=redact(response.url, secrets), body=redact_beginning(response.body, secrets))
    return dataclasses.replace(error, type=type_, title=title, detail=detail, response=response)


def redact_beginning(text: str, secrets: Any) -> str:
    """Return what `redact` does of the beginning of a longer text, without the beginning of a secret at its end."""
    text = redact(text, secrets)
    begun = 0
    for value in _spellings(secrets):
        lengths = range(min(len(value) - 1, len(text)), MIN_LENGTH - 1, -1)
        begun = max(begun, next((length for length in lengths if text.endswith(value[:length])), 0))
    return text[: len(text) - begun] + MASK if begun else text


def redact_values(value: Any, secrets: Any) -> Any:
    """Return JSON without the texts in `secrets`; see `redact`."""
    if not secrets:
        return value
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list):
        return [redact_values(item, secrets) for item in value]
    if isinstance(value, dict):
        return {redact(key, secrets): redact_values(item, secrets) for key, item in value.items()}
    return value


def _spellings(secrets: Any) -> set[str]:
    return {
        spelling
        for value in _texts(secrets)
        if len(value) >= MIN_LENGTH
        for spelling in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(value, ""))
    }


def _texts(value: Any) -> Iterator[str]:
    items: Iterable[Any] = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    )
    for item in items:
        yield from _texts(item)
    if isinstance(value, str):
        yield value
