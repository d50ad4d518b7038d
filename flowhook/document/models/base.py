"""The base of all models of a flow file, overrides of their JSON Schema, and what they share, such as retry policies.

Source: dsl-reference.md, "Duration", "Timeout", "Retry"; schema/workflow.yaml, `retryPolicy`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    StrictInt,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from flowhook.document.diagnostics.problems import Code, LocatedCause, refused_as, validation_error, validation_error_at
from flowhook.document.quantities import parse_duration, parse_size
from flowhook.errors import InvalidError
from flowhook.expressions.syntax import is_expression, syntax_hint

EXPRESSION: Final[JsonSchemaValue] = {"type": "string", "pattern": r"^\s*\$\{[\s\S]*\}\s*$"}  # an expression in `${ }`

_DURATION: Final[JsonSchemaValue] = {
    "description": "A duration.",
    "examples": ["PT30S", "PT5M", "P1D"],
    "anyOf": [
        {"type": "string", "pattern": r"^P(?=.)([0-9.]+W)?([0-9.]+D)?(T(?=.)([0-9.]+H)?([0-9.]+M)?([0-9.]+S)?)?$"},
        {
            "type": "object",
            "properties": {
                unit: {"type": "integer", "minimum": 0}
                for unit in ("days", "hours", "minutes", "seconds", "milliseconds")
            },
            "additionalProperties": False,
            "minProperties": 1,
        },
    ],
}
DURATION: Final = WithJsonSchema(_DURATION)
DURATION_OR_EXPRESSION: Final = WithJsonSchema({**_DURATION, "anyOf": [*_DURATION["anyOf"], EXPRESSION]})
SIZE: Final = WithJsonSchema(
    {
        "description": "A size.",
        "examples": ["10MiB", "512KiB"],
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]{1,15}( ?(B|[kKMG]B|[KMG]iB))?$"},
            {"type": "integer", "minimum": 1},
        ],
    }
)
NETWORK: Final = WithJsonSchema(
    {"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]+)?$", "examples": ["192.0.2.0/24", "2001:db8::/32"]}
)
TRANSFORMATION: Final = WithJsonSchema({"type": ["string", "object"]})
_SCALAR: Final[JsonSchemaValue] = {"type": ["string", "number", "boolean"]}
_SCALARS: Final[JsonSchemaValue] = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}


def _any_of(*schemas: JsonSchemaValue) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": list(schemas)})


DATA: Final = _any_of(EXPRESSION, {"type": "object", "minProperties": 1})
TEXTS: Final = _any_of(EXPRESSION, {"type": "object", "additionalProperties": _SCALAR})
QUERY: Final = _any_of(EXPRESSION, {"type": "object", "additionalProperties": _SCALARS})
PORT: Final = _any_of({"type": "integer", "minimum": 1, "maximum": 65535}, EXPRESSION)
MESSAGES: Final = _any_of(EXPRESSION, {"type": "object"}, {"type": "array", "items": {"type": ["object", "string"]}})
PARAMETERS: Final = _any_of(EXPRESSION, {"type": "object"})
STATUS: Final = _any_of({"type": "integer", "minimum": 200, "maximum": 599}, EXPRESSION)
ITEMS: Final = _any_of({"type": "string"}, {"type": "array", "items": {"type": "object"}})
TEXT_OR_LIST: Final = WithJsonSchema({"type": ["string", "array"]})
CONSTANT: Final = WithJsonSchema(_SCALAR)
EXTENSION: Final = WithJsonSchema({"type": ["string", "integer", "boolean"]})
SCHEMA: Final = WithJsonSchema({"type": ["object", "boolean"]})


def named(content: Any) -> JsonSchemaValue:
    """Return the schema of a mapping with one key, whose value is `content`: an item of a list of tasks or cases."""
    return {"type": "object", "additionalProperties": content, "minProperties": 1, "maxProperties": 1}


class Model(BaseModel):
    """A part of a flow file: immutable, unknown keys refused, Python keywords spelled with a trailing underscore."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=False, revalidate_instances="never", hide_input_in_errors=True
    )


Definition = TypeVar("Definition")
Text = TypeVar("Text")
Either: TypeAlias = Annotated[
    Annotated[Definition, Tag("<definition>")] | Annotated[Text, Tag("<reference>")],
    Discriminator(lambda value: "<reference>" if isinstance(value, str) else "<definition>"),
]
"""A definition, or in its place a type whose values are written as texts."""

OrText: TypeAlias = Either[Definition, str]
"""A definition, or a text in its place: the name of one, or an expression."""


def _count_keys(least: int, most: float, code: Code) -> Callable[..., Any]:
    def validator(*keys: str, cause: str, may_be_null: bool = False) -> Any:
        def check(model: Model) -> Model:
            written = model.model_fields_set.intersection(keys or model.model_fields_set)
            count = len(written if may_be_null else [key for key in written if getattr(model, key) is not None])
            if not least <= count <= most:
                raise validation_error(code, cause)
            return model

        return model_validator(mode="after")(check)

    return validator


# validators of models in which so many of these keys, or of all, have a value; null is one if it `may_be_null`
exactly_one: Final = _count_keys(1, 1, Code.KEY_CONFLICT)
at_most_one: Final = _count_keys(0, 1, Code.KEY_CONFLICT)
at_least_one: Final = _count_keys(1, math.inf, Code.KEY_MISSING)


class OneKeyModel(Model):
    """Alternatives, of which exactly one is given."""

    _beside: ClassVar[Mapping[str, str]] = {}
    """Keys that may stand beside one of them: that alternative, by the key."""

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        chosen = self.model_fields_set - self._beside.keys()
        for key, alternative in self._beside.items():
            if key in self.model_fields_set and alternative not in chosen:
                raise validation_error_at(((key,), Code.KEY_CONFLICT, f"needs `{alternative}` beside it"))
        if len(chosen) != 1:
            *keys, last = (key for key in type(self).model_fields if key not in self._beside)
            raise validation_error(Code.KEY_CONFLICT, f"expected exactly one of {', '.join(keys)} and {last}")
        return self


class NamedModel(Model):
    """An item of a list: a name and, below it, the other keys, or the value of the field `inner`."""

    name: str = Field(alias="<name>")

    noun: ClassVar[str]
    keys: ClassVar[str]
    inner: ClassVar[str] = ""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(schema)
        model = handler.resolve_ref_schema(reference)
        content = model["properties"].get(cls.inner)
        if content is None:
            others = {key: item for key, item in model["properties"].items() if key != "<name>"}
            content = {**model, "properties": others, "required": [key for key in model["required"] if key != "<name>"]}
        model.clear()
        model.update(named(content))
        return reference

    @model_validator(mode="before")
    @classmethod
    def _unfold(cls, value: object) -> object:
        if not isinstance(value, dict) or len(value) != 1:
            raise validation_error(Code.ITEM_INVALID, f"expected one {cls.noun}: a name and, below it, {cls.keys}")
        ((name, content),) = value.items()
        if cls.inner:
            return {"<name>": name, cls.inner: content}
        if not isinstance(content, dict):
            raise validation_error(Code.VALUE_TYPE, f"expected a mapping with {cls.keys}")
        return {"<name>": name, **content}


def refusing(problems: Callable[[Any], Iterator[LocatedCause]]) -> Callable[[Any], Any]:
    """Return a validator that refuses a value with all the problems which a generator yields about it."""

    def check(value: Any) -> Any:
        if found := tuple(problems(value)):
            raise validation_error_at(*found)
        return value

    return check


def model_check(problems: Callable[[Any], Iterator[LocatedCause]]) -> Any:
    """Make a method that yields the problems of a model, once its keys are valid, a validator of it."""
    return model_validator(mode="after")(refusing(problems))


def accept(test: Callable[[Any], bool], code: Code, cause: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not test(value):
            raise validation_error(code, cause)
        return value

    return check


def checked(check: Callable[[Any], object], code: Code) -> Callable[[Any], Any]:
    """Return a validator of values that `check` accepts, whose InvalidError is reported with a code."""

    def validate(value: Any) -> Any:
        with refused_as(code):
            check(value)
        return value

    return validate


def size(least: int, most: float, cause: str) -> BeforeValidator:
    """Return a validator that converts a size such as `10MiB` to bytes, within limits."""

    def convert(value: object) -> int:
        with refused_as(Code.SIZE_INVALID):
            converted = parse_size(value)
        if not least <= converted <= most:
            raise validation_error(Code.VALUE_RANGE, cause)
        return converted

    return BeforeValidator(convert)


def pattern_or_expression(pattern: str, expected: str) -> Callable[[str], str]:
    """Return a validator for strings: the whole string matches the pattern, or it is an expression."""
    compiled, cause = re.compile(pattern), f"expected {expected}, or an expression"
    return accept(lambda value: is_expression(value) or bool(compiled.fullmatch(value)), Code.VALUE_FORMAT, cause)


def integer_or_expression(what: str, least: int, most: int) -> PlainValidator:
    def test(value: object) -> bool:
        return is_expression(value) or (type(value) is int and least <= value <= most)

    cause = f"expected {what}, {least} to {most}, or an expression ${{ … }}"
    return PlainValidator(accept(test, Code.VALUE_RANGE, cause))


_schema: Final = accept(
    lambda value: isinstance(value, dict | bool), Code.VALUE_TYPE, "expected a JSON Schema: a mapping"
)


class Schema(Model):
    """A JSON Schema (2020-12) that data has to meet. The schemas of other formats and places are refused at apply."""

    format: str = "json"
    document: Annotated[dict[str, Any] | bool, PlainValidator(_schema), SCHEMA]


_data_or_bare_expression: Final = accept(
    lambda value: isinstance(value, dict | str), Code.VALUE_TYPE, "expected an expression or a mapping of expressions"
)


def _data_or_expression(value: object) -> object:
    if isinstance(value, dict):
        if not value:
            raise validation_error(Code.KEY_MISSING, "expected at least one key")
        return value
    if is_expression(value):
        return value
    raise neither_mapping_nor_expression(value)


def neither_mapping_nor_expression(value: object) -> PydanticCustomError:
    return validation_error(Code.VALUE_TYPE, f"expected a mapping or an expression ${{ … }}{syntax_hint(value)}")


Transformation = Annotated[dict[str, Any] | str, PlainValidator(_data_or_bare_expression), TRANSFORMATION]
"""`input.from`, `output.as`, `export.as`: an expression, in `${ }` or bare, or an object with expressions in `${ }`."""

Data = Annotated[dict[str, Any] | str, PlainValidator(_data_or_expression), DATA]
"""An object with at least one key and expressions in `${ }`, or one expression in `${ }` that yields an object."""


_URI: Final = re.compile(r"https?://[^\s/?#{}]\S*", re.IGNORECASE)
_TEMPLATE: Final = re.compile(r"[^{}]*(?:\{[^{}]+\}[^{}]*)*")

_WITHIN: Final = (
    """; an expression is a whole string, ${ "https://api.example.com/pets/\\(.id)" }; {id} stands for the property """
    "`id` of the task's input"
)


def check_uri_template(value: str) -> str:
    """Return a value; raise a validation error unless it is an http(s) URI template, or an expression."""
    if is_expression(value):
        return value
    if not _URI.fullmatch(value):
        hint = _WITHIN if "${" in value else syntax_hint(value)
        cause = f"expected an http(s) URI such as https://api.example.com/pets{hint}"
        raise validation_error(Code.URI_INVALID, cause)
    if not _TEMPLATE.fullmatch(value):
        cause = "braces in a URI template enclose simple variables, such as {id}, and nothing else"
        raise validation_error(Code.URI_INVALID, cause)
    return value


def is_uri(value: object) -> bool:
    """Whether a value is an absolute http(s) URI, written out and without variables."""
    return isinstance(value, str) and _URI.fullmatch(value) is not None and "{" not in value and "}" not in value


_uri: Final = accept(
    lambda value: is_expression(value) or is_uri(value),
    Code.URI_INVALID,
    "expected an http(s) URI such as https://login.example.com, without variables",
)

UriTemplate = Annotated[str, AfterValidator(check_uri_template)]
"""An absolute http(s) URI that may hold `{variables}`, or an expression in `${ }`."""

Uri = Annotated[str, AfterValidator(_uri)]  # an absolute http(s) URI, or an expression in `${ }`


def _duration(value: object) -> object:
    if is_expression(value):
        return value
    try:
        parse_duration(value)
    except InvalidError as error:
        cause = error.message
        hint = syntax_hint(value)
        if hint:
            cause = f"expected a duration such as PT5M{hint}"
        elif isinstance(value, dict) and any(map(is_expression, value.values())):
            cause = "a duration can be an expression as a whole, but one of its units can't"
        raise validation_error(Code.DURATION_INVALID, cause) from None
    return value


Duration = Annotated[dict[str, Any] | str, PlainValidator(_duration), DURATION_OR_EXPRESSION]
"""ISO 8601, a mapping of units to numbers, or an expression in `${ }` that yields one of them."""


class Timeout(Model):
    """A time limit."""

    after: Duration


class Nothing(Model):
    """A mapping without keys."""


class ExponentialBackoff(Model):
    """Each delay is twice the one before; none is longer than `maxDelay`, which Flowhook adds to the DSL."""

    max_delay: Duration | None = Field(None, alias="maxDelay")


class LinearBackoff(Model):
    """Each delay is longer than the one before by `increment`, by default by `delay`; for `maxDelay` see above."""

    increment: Duration | None = None
    max_delay: Duration | None = Field(None, alias="maxDelay")


class Backoff(OneKeyModel):
    """The growth of delays: exactly one of these."""

    constant: Nothing | None = None
    exponential: ExponentialBackoff | None = None
    linear: LinearBackoff | None = None


class AttemptLimit(Model):
    """Number of retries, and time limit of each attempt."""

    count: Annotated[StrictInt, Field(ge=0, le=10_000)] | None = None
    duration: Duration | None = None


class RetryLimit(Model):
    """The end of retrying; `duration` counts from the first failure."""

    attempt: AttemptLimit | None = None
    duration: Duration | None = None


class Jitter(Model):
    """A random time between these is added to each delay."""

    from_: Duration = Field(alias="from")
    to: Duration


class RetryPolicy(Model):
    """Conditions and delays of retries."""

    when: str | None = None
    except_when: str | None = Field(None, alias="exceptWhen")
    delay: Duration | None = None
    backoff: Backoff | None = None
    limit: RetryLimit | None = None
    jitter: Jitter | None = None


# or the name of one of `use.timeouts` or `use.retries`; `execution` and `metadata` may name one of `RETRY_PRESETS`
TimeoutOrName = OrText[Timeout]
RetryOrName = OrText[RetryPolicy]
