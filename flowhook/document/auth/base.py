"""Base classes and shared types of the kinds of credentials."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticKnownError

from flowhook import limits
from flowhook.document import schema_overrides
from flowhook.document.codes import Code
from flowhook.document.duration import parse_duration
from flowhook.document.model import Model
from flowhook.document.validation import validation_error, validation_error_at
from flowhook.errors import InvalidError
from flowhook.providers import Handshake
from flowhook.providers.signed_content import TOKEN

MAX_SECRETS_PER_KIND: Final = 8
"""Secrets one kind may name: each costs a hash of the body when none of them matches."""

MAX_TOLERANCE_SECONDS: Final = 7 * 24 * 3600.0

FIELD_PATH: Final = r"^[^.{}\s]{1,128}(\.[^.{}\s]{1,128}){0,7}$"
_FIELD_PATH: Final = re.compile(FIELD_PATH)


def positive_duration(value: object) -> float:
    """Return seconds, in (0, inf), for an ISO 8601 duration."""
    try:
        seconds = parse_duration(value)
    except (InvalidError, ValueError) as error:
        raise validation_error(Code.DURATION_INVALID, str(error)) from None
    if seconds <= 0:
        raise validation_error(Code.VALUE_RANGE, "must be longer than zero")
    return seconds


def _header_name(value: str) -> str:
    if not TOKEN.fullmatch(value):
        cause = f"{value!r} is not a valid header name: use letters, digits and hyphens, at most 128"
        raise validation_error(Code.HEADER_INVALID, cause)
    return value


def _field_path(value: str) -> str:
    # not `Field(pattern=…)`: pydantic's regex engine unrolls the repetitions, to 4 MiB in each process with the model
    if not _FIELD_PATH.fullmatch(value):
        raise PydanticKnownError("string_pattern_mismatch", {"pattern": FIELD_PATH})
    return value


def printable_ascii(value: str) -> str:
    """Return the string, if a header can carry it."""
    if not value.isascii() or not value.isprintable():
        raise validation_error(Code.HEADER_INVALID, "must be printable ASCII: headers transmit nothing else unchanged")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
"""The name of a header field as the author spelled it; compare it in lower case."""

FieldPath = Annotated[str, AfterValidator(_field_path), WithJsonSchema({"type": "string", "pattern": FIELD_PATH})]
"""Path into a JSON body: names joined by dots."""

PublicKeyText = Annotated[str, Field(min_length=32, max_length=8192)]
SecretName = Annotated[str, Field(pattern=rf"^[A-Za-z0-9._-]{{1,{limits.MAX_SECRET_NAME_LENGTH}}}$")]
Duration = Annotated[float, BeforeValidator(positive_duration), schema_overrides.DURATION]


ONE_WAY_TO_NAME_SECRETS: Final[JsonValue] = [{"required": ["secret"]}, {"required": ["secrets"]}]


class AuthKind(Model):
    """Base class of all kinds of credentials."""

    model_config = ConfigDict(defer_build=True)  # there are dozens of kinds, and a process uses a few of them

    kind: ClassVar[str]

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Names of the secrets that a request may match, in the order they are tried."""
        return ()

    @property
    def other_secret_names(self) -> tuple[str, ...]:
        """Names of further secrets, which no request is matched against: for handshakes, for fetching keys."""
        return ()

    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        """Public keys in the flow file, each as its name and its value."""
        return ()

    @property
    def handshake(self) -> Handshake | None:
        """Method by which senders of this kind validate a URL; None: they don't."""
        return None

    @property
    def names_deliveries(self) -> bool:
        """Whether senders give each delivery an ID, so that repeated ones are recognised without a `dedupe.key`."""
        return False


class SecretAuth(AuthKind):
    """A kind that has secrets, newest first while rotating."""

    model_config = ConfigDict(json_schema_extra={"oneOf": ONE_WAY_TO_NAME_SECRETS})

    secret: SecretName | None = None
    secrets: tuple[SecretName, ...] | None = None

    @model_validator(mode="after")
    def _one_way_to_name_secrets(self) -> Self:
        if (self.secret is None) == (self.secrets is None):
            cause = "needs `secret: NAME`, or `secrets: [NAME, …]` while rotating, and not both"
            raise validation_error(Code.KEY_CONFLICT, cause)
        if self.secrets is not None and not 1 <= len(self.secrets) <= MAX_SECRETS_PER_KIND:
            cause = f"needs 1 to {MAX_SECRETS_PER_KIND} names, not {len(self.secrets)}"
            raise validation_error_at((("secrets",), Code.VALUE_RANGE, cause))
        return self

    @property
    def secret_names(self) -> tuple[str, ...]:
        """See `AuthKind`; at least one."""
        return self.secrets or (self.secret or "",)
