"""The `auth` key: who may call a webhook (docs/flow-file.md).

`auth` is `none`, one kind, or a list of kinds of which any one has to pass. A kind is a mapping with one key, its name:
`{github: {secret: NAME}}`. For a callback, `auth` may also be `one_time_url`. The models hold the validated settings;
`flowhook.signatures` verifies requests by them. No model holds the value of a secret, only names.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, PlainValidator, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flowhook.document.diagnostics.problems import Code, validation_error, validation_error_at
from flowhook.document.models.base import Model
from flowhook.document.models.credentials import ApiKeyAuth, AuthKind, BasicAuth, JwtAuth, MtlsAuth, OneTimeUrlAuth
from flowhook.document.models.custom_signature import HmacAuth, PublicKeyAuth
from flowhook.document.models.provider_auth import PROVIDER_KINDS
from flowhook.providers import PROVIDERS

MAX_KINDS: Final = 8  # kinds one `auth` may list

_SHARED: Final[tuple[type[AuthKind], ...]] = (BasicAuth, ApiKeyAuth, JwtAuth, MtlsAuth, HmacAuth, PublicKeyAuth)
KINDS: Final[Mapping[str, type[AuthKind]]] = {**{model.kind: model for model in _SHARED}, **PROVIDER_KINDS}
"""Every kind by its name in flow files, except the one that only callbacks have."""

ONE_TIME_URL: Final = OneTimeUrlAuth.kind


@functools.cache
def _adapter(name: str) -> TypeAdapter[dict[str, Any]]:
    """Return the validator of one kind, built on first use: there are dozens, and a process uses a few of them.

    It validates a dictionary with one entry rather than the model itself, so that the location of an error contains
    the name of the kind.
    """
    model = KINDS[name]
    return TypeAdapter(dict[str, model])  # type: ignore[valid-type] # known only to the table


def _parse_kind(value: object) -> AuthKind:
    if not isinstance(value, Mapping) or len(value) != 1:
        cause = "a kind of `auth` is a mapping with one key, its name: {github: {secret: NAME}}"
        if value == "none":
            cause = "`none` beside other kinds would let everybody in: use it alone, or remove it"
        elif value == ONE_TIME_URL:
            cause = "remove it: a callback's one-time URLs are valid whatever other kinds are listed"
        raise validation_error(Code.AUTH_INVALID, cause)
    (name,) = value
    if name in KINDS:
        kind: AuthKind = _adapter(name).validate_python(value)[name]
        return kind
    guesses = difflib.get_close_matches(str(name), KINDS, n=1)
    hint = f"did you mean {guesses[0]}?" if guesses else f"use none, {', '.join(KINDS)}"
    cause = _NO_KEYS if name == ONE_TIME_URL else f"unknown kind of `auth`: {hint}"
    raise validation_error_at(((str(name),), Code.AUTH_INVALID, cause))


_KIND: Final = TypeAdapter(Annotated[AuthKind, PlainValidator(_parse_kind)])
_LIST: Final = TypeAdapter(list[Annotated[AuthKind, PlainValidator(_parse_kind)]])


def parse_auth(value: object) -> tuple[AuthKind, ...]:
    """Return the kinds of `auth`, any one of which has to pass; empty for `none`.

    Raises:
        ValidationError: lists each problem with its location, relative to `auth`.
        PydanticCustomError: `auth` as a whole is none of the three forms.
    """
    if value == "none":
        return ()
    if isinstance(value, Mapping):
        return (_KIND.validate_python(value),)
    if isinstance(value, list) and 1 <= len(value) <= MAX_KINDS:
        return tuple(_LIST.validate_python(value))
    code, cause = Code.AUTH_INVALID, "must be `none`, one kind such as {github: {secret: NAME}}, or a list of kinds"
    if isinstance(value, list):
        code = Code.VALUE_RANGE
        cause = f"needs 1 to {MAX_KINDS} kinds, not {len(value)}; `auth: none` asks for no credentials"
    elif value is None:
        code, cause = Code.KEY_MISSING, "is missing: say who may call, or `auth: none` for everyone"
    elif value == ONE_TIME_URL:
        cause = "is for callbacks only: say who may call this URL, or `auth: none` for everyone"
    elif isinstance(value, str) and value in KINDS:
        cause = f"{value} needs settings: {_written(value)}"
    raise validation_error(code, cause)


def parse_callback_auth(value: object) -> tuple[AuthKind, ...]:
    return (OneTimeUrlAuth(),) if value is None or value == ONE_TIME_URL else parse_auth(value)


_NO_KEYS: Final = f"has no keys: write `auth: {ONE_TIME_URL}`, the default of callbacks"


def _written(name: str) -> str:
    fields = KINDS[name].model_fields
    needed = [f"{field.alias or key}: …" for key, field in fields.items() if field.is_required()]
    parts = [*needed, *(["secret: NAME"] if "secret" in fields else [])]
    try:
        KINDS[name].model_validate({"secret": "NAME"})
    except ValidationError:
        parts += [] if needed else ["…"]
    return f"{{{name}: {{{', '.join(parts)}}}}}"


class _OneOf(Model):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})


class _AuthSchema:
    """JSON Schema of `auth` for editors: its forms and all kinds; `words` are the forms that are a single word."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        fields: dict[str, Any] = {
            name.replace("-", "_"): (model | None, Field(None, alias=name)) for name, model in KINDS.items()
        }
        kind = create_model("AuthByKind", __base__=_OneOf, **fields)
        some = Annotated[list[kind], Field(min_length=1, max_length=MAX_KINDS)]  # type: ignore[valid-type]
        forms: Any = Literal[self._words] | kind | some
        return handler(TypeAdapter(forms).core_schema)


Auth = Annotated[tuple[AuthKind, ...], PlainValidator(parse_auth), _AuthSchema("none")]
CallbackAuth = Annotated[tuple[AuthKind, ...], PlainValidator(parse_callback_auth), _AuthSchema("none", ONE_TIME_URL)]


SIGNING: Final = frozenset(row.name for row in PROVIDERS.values() if row.handshake is not None and row.handshake.signs)
"""Kinds that sign text from a request: for `x`, from anybody; for `zoom`, from a request that is itself signed."""


class SecretMisuse(NamedTuple):
    """A secret of two kinds, one of which signs text chosen by others."""

    secret: str
    one: str
    other: str

    @property
    def signing(self) -> str:
        return self.one if self.one in SIGNING else self.other


def kinds_by_secret(kinds: Iterable[AuthKind]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for kind in kinds:
        for name in kind.secret_names:
            found.setdefault(name, set()).add(kind.kind)
    return found


def secret_misuses(one: Mapping[str, set[str]], other: Mapping[str, set[str]]) -> Iterator[SecretMisuse]:
    for name in sorted(one.keys() & other.keys()):
        for mine in sorted(one[name]):
            for theirs in sorted(other[name]):
                if mine != theirs and SIGNING & {mine, theirs}:
                    yield SecretMisuse(name, mine, theirs)
