"""A form that was not performed, as its session has ended or a field is invalid: its author may send it again."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flowhook.errors import InvalidError
from operations.operation import PLACEHOLDER
from operations.table import OPERATIONS

# bytes of a form that a page contains until its author has logged in; it is parsed after that
MAX_UNSENT: Final = 128 * 1024
MAX_CARRIED: Final = MAX_UNSENT * 4 // 3 + 8192  # bytes of a login that carries a form
# escaped bytes (`%XX`) in a login that carries a form: decoding them costs more than all the rest
MAX_ESCAPES: Final = 1024
LONG: Final = 100  # characters of a value that a page shows in a line
# paths that forms are sent to, and what each does. Some only read: their fields may be too long for a URL.
_FORMS: Final = tuple(
    (re.compile(PLACEHOLDER.sub("[^/]+", each.path)), each.summary)
    for each in sorted(OPERATIONS, key=lambda each: not each.writes)
)


@dataclass(frozen=True, slots=True)
class UnsentForm:
    """A form that has to be sent again."""

    path: str  # the path that it was sent to
    summary: str  # what that does
    fields: tuple[tuple[str, str], ...]  # names and values, in order, without a CSRF token
    invalid: Collection[str] = ()  # names of fields that have to be corrected

    @property
    def editable(self) -> list[tuple[str, str]]:
        """The fields that can be edited: invalid ones, and those that take more than a line."""
        return [(name, value) for name, value in self.fields if name in self.invalid or _is_long(value)]

    @property
    def fixed(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.fields if name not in self.invalid and not _is_long(value)]


def unsent_form(path: str, fields: Mapping[str, Sequence[str]], invalid: Collection[str] = ()) -> UnsentForm:
    pairs = ((name, value) for name, values in fields.items() for value in values)
    return UnsentForm(path, summary(path), tuple(pairs), invalid)


def summary(path: str) -> str:
    return next((text for pattern, text in _FORMS if pattern.fullmatch(path)), "")


def carry(body: bytes) -> str:
    """Return the body of a form as the value of a field, none of whose characters browsers escape."""
    return base64.urlsafe_b64encode(body).decode()


def carried(value: str) -> bytes:
    """Return the body of a form that a field carries. Raises `InvalidError`: it carries none (`FORM_INVALID`)."""
    try:
        return base64.b64decode(value.encode("ascii"), b"-_", validate=True)
    except ValueError:
        raise InvalidError("no form of this console", reason="FORM_INVALID") from None


def _is_long(value: str) -> bool:
    return len(value) > LONG or "\n" in value
