"""Redaction of the values of secrets in texts that people see: errors and what is stored of them.

Authors may use a secret in an expression, and servers may echo what they were sent. Neither may put the secret into an
error, and thereby into storage, logs and terminals. An encoded secret is as sensitive as the secret itself.
"""

from __future__ import annotations

import dataclasses
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from flowhook.document.definition import strings_in
from flowhook.model import WorkflowError

MASK: Final = "…"

MIN_LENGTH: Final = 4
"""Characters of the shortest text to redact: a shorter one is no secret, and messages would become unreadable."""


MIN_ENCODED_BYTES: Final = 8
"""Bytes of the shortest text whose base64 is redacted: that of a shorter one may occur by chance."""

_SAFE: Final = ("", "/", "!*'()", "!$&'()*+,;=:@", "!$&'()*+,;=:@/", "!$&'()*+,;=:@/?")
"""Characters that are left unescaped in a URL; one set for each of the conventions in use."""

_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")
_BEFORE: Final = "[A-Za-z0-9+/_-]?"
_AFTER: Final = "[A-Za-z0-9+/_-]?(?:=|%3[Dd])*"


class Redactor:
    """Masks secrets in all their spellings. Computing these takes milliseconds for long texts: reuse the object."""

    def __init__(self, secrets: Any) -> None:
        texts = {text for _, value in strings_in(secrets) for text in (value, value.strip()) if len(text) >= MIN_LENGTH}
        self._plain = sorted({spelling for text in texts for spelling in _spellings(text)}, key=len, reverse=True)
        self._encoded = {found: around for text in texts for found, around in _encodings(text)}

    def redact(self, text: str) -> str:
        """Return `text` with the secrets masked.

        They are found verbatim, as escaped in JSON or a URL, and in base64, also within the base64 of a longer text.
        """
        for spelling in self._plain:
            text = text.replace(spelling, MASK)
        for found, (before, after) in self._encoded.items():
            if found in text:
                text = re.sub(f"{before}{re.escape(found)}{after}", MASK, text)
        return text

    def redact_beginning(self, text: str) -> str:
        """Redact the beginning of a longer text, including a secret that is cut off at its end."""
        text = self.redact(text)
        begun = 0
        for value in (*self._plain, *self._encoded):
            first, at = value[:MIN_LENGTH], max(0, len(text) - len(value) + 1)
            while (at := text.find(first, at)) >= 0 and not value.startswith(text[at:]):
                at += 1
            begun = max(begun, len(text) - at if at >= 0 else 0)
        return text[: len(text) - begun] + MASK if begun else text

    def redact_error(self, error: WorkflowError) -> WorkflowError:
        type_, title, detail = (self.redact(text) for text in (error.type, error.title, error.detail))
        response = error.response
        if response is not None:
            response = response._replace(url=self.redact(response.url), body=self.redact_beginning(response.body))
        return dataclasses.replace(error, type=type_, title=title, detail=detail, response=response)

    def redact_values(self, value: Any) -> Any:
        """Redact all texts in JSON, including names of members."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list):
            return [self.redact_values(item) for item in value]
        if isinstance(value, dict):
            return {self.redact(key): self.redact_values(item) for key, item in value.items()}
        return value


def _spellings(text: str) -> Iterator[str]:
    """Yield a text verbatim, as escaped in JSON, and as it may be escaped in a URL."""
    yield text
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield written
        yield written.replace("/", "\\/")
    for safe in _SAFE:
        escaped = quote(text, safe, errors="replace")
        for spelling in {escaped, escaped.replace("%20", "+")}:
            yield spelling
            yield _ESCAPE.sub(lambda escape: escape[0].lower(), spelling)


def _encodings(text: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the invariant parts of a text's base64 encodings, with patterns for the characters around them.

    Three bytes make four characters. Which characters encode only the text depends on the number of bytes before it;
    the first and the last character may also encode adjacent bytes.

    Source: RFC 4648, sections 4 and 5.
    """
    data = text.encode("utf-8", "replace")
    if len(data) < MIN_ENCODED_BYTES:
        return
    for preceding, shared in ((0, 0), (1, 2), (2, 3)):
        bits = 8 * (preceding + len(data))
        own = b64encode(bytes(preceding) + data).decode()[shared : bits // 6]
        around = (_BEFORE if shared else "", _AFTER if bits % 6 else "")
        escaped = quote(own, "")
        for spelling in {
            own,
            own.translate({43: "-", 47: "_"}),
            escaped,
            escaped.replace("%2B", "%2b").replace("%2F", "%2f"),
        }:
            yield spelling, around
