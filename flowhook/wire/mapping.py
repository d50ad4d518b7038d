r"""Mapping between the types of `flowhook.model` and the messages of `flowhook.v1`, derived from both, both ways.

A field of a type and the field of the message have the same name. What differs follows conventions:

| in the type | in the message |
|---|---|
| `receive_time_ms: int`, Unix milliseconds | `receive_time`, a `Timestamp` |
| `validity: float`, seconds | `validity`, a `Duration` |
| `status: Status`, an enum | `STATUS_FAULTED`: what follows the prefix is the member's name |
| `error: WorkflowError \| None` | absent where it is None |
| `output: bytes \| None` | absent, or empty where the field has no presence |
| `kinds: tuple[LinkKind, ...]` | a repeated field; so is a `frozenset` of values that are the same in both, sorted |
| `headers: tuple[tuple[str, bytes], ...]` | a repeated message whose fields are the parts, by number |
| `unreachable_from: Mapping[str, str]` | the same, of two fields |
| `event: bytes` | `event`, a message, serialized |

Converters are compiled once for each pair of types, when it is first used. Messages of peers of other versions are
accepted: an unknown value of an enum becomes None, or what `_UNKNOWN` says. A subclass of a model type, such as a
record of storage, is sent as that type.

`Event` has converters written by hand (see `convert`), and so have the frequent messages of the Attach stream.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from flowhook.model import Change, Event, Retry, Status, TaskState
from flowhook.model.rejections import Acceptability, RequestOutcome
from flowhook.model.replays import ReplayOptions
from flowhook.model.types import field_defaults, field_types
from flowhook.wire import convert

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_UNKNOWN: Final[Mapping[type[Enum], Enum]] = {
    Acceptability: Acceptability.UNKNOWN,
    Change: Change.UPDATED,
    RequestOutcome: RequestOutcome.REFUSED,
    Status: Status.PENDING,
    TaskState: TaskState.RUNNING,
}
"""The safest member for a value that is unspecified, or of a newer version."""

_NOT_SENT: Final[Mapping[type, frozenset[str]]] = {Retry: frozenset({"keys", "follows"})}
"""Fields that messages lack: those of a retry are for the router only, in a message of the Attach stream."""

_REPORTED: Final = frozenset({"flowhook.v1.Process.stopping", "flowhook.v1.Rejection.original"})
"""Fields that types lack: processes send them with their reports, and routers return none."""


class _Codec(NamedTuple):
    """Converts values of one type to what a field of a message takes, and back."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class _Field(NamedTuple):
    """A field of a type and of a message."""

    attribute: str  # its name in the type
    name: str  # its name in the message
    codec: _Codec | None  # of its values other than None; None: they are the same in both
    optional: bool  # whether it may be None
    presence: bool  # whether the message tells whether it is set
    default: Any  # what it is where a message that is one of its fields is absent, and then left out; None: it is sent

    def read(self, message: Message) -> Any:
        if self.presence and (self.optional or self.default is not None) and not message.HasField(self.name):
            return self.default
        value = getattr(message, self.name)
        if self.optional and not self.presence and not value:
            return None
        return value if self.codec is None else self.codec.decode(value)


_BY_HAND: Final[Mapping[type, _Codec]] = {
    Event: _Codec(convert.event_to_proto, convert.event_from_proto),
    ReplayOptions: _Codec(convert.replay_to_proto, convert.replay_from_proto),
}


def to_proto(value: object, kind: type[M]) -> M:
    """Return a value of a model type as a message; TypeError: the two have different fields."""
    return _codec(_model_type(type(value)), kind.DESCRIPTOR).encode(value)  # type: ignore[no-any-return, arg-type] # a class can be hashed


def from_proto(message: Message, kind: type[T]) -> T:
    """Return the value of a model type that a message holds; TypeError: the two have different fields.

    KeyError: a value of an enum is unspecified or unknown, and none stands for that.
    """
    return _codec(kind, message.DESCRIPTOR).decode(message)  # type: ignore[no-any-return, arg-type] # as above


def enum_to_proto(member: Enum | None, kind: Any) -> Any:
    """Return the value for a member in a protobuf enum, given by its generated class; None is its unspecified value."""
    return 0 if member is None else _enum(type(member), kind.DESCRIPTOR).encode(member)


def enum_from_proto(value: int, member: type[T], kind: Any) -> T:
    """Return the member for a value of a protobuf enum; KeyError: it is unknown, and no member stands for that."""
    return _enum(member, kind.DESCRIPTOR).decode(value)  # type: ignore[arg-type, no-any-return] # T is an enum


@cache
def _model_type(kind: type) -> type:
    return next(each for each in kind.__mro__ if each.__module__.startswith("flowhook."))


@cache
def _codec(kind: type, descriptor: Descriptor) -> _Codec:
    if kind in _BY_HAND:
        return _BY_HAND[kind]
    message_class = GetMessageClass(descriptor)
    hidden = _NOT_SENT.get(kind, frozenset())
    hints = {name: hint for name, hint in field_types(kind).items() if name not in hidden}
    names = {name: _name_in(descriptor, name) for name in hints}
    known = {field.name for field in descriptor.fields if field.full_name not in _REPORTED}
    if different := set(names.values()) ^ known:
        raise TypeError(f"{kind.__name__} and {descriptor.full_name} differ in {', '.join(sorted(different))}")
    fields = [_field(kind, name, hint, descriptor.fields_by_name[names[name]]) for name, hint in hints.items()]

    def encode(value: Any) -> Message:
        given: dict[str, Any] = {}
        for attribute, name, codec, _, presence, default in fields:
            part = getattr(value, attribute)
            if part is not None and (part or presence) and (default is None or part != default):
                given[name] = part if codec is None else codec.encode(part)
        return message_class(**given)

    def decode(message: Message) -> Any:
        return kind(**{field.attribute: field.read(message) for field in fields})

    return _Codec(encode, decode)


def _name_in(descriptor: Descriptor, attribute: str) -> str:
    """Return the name in a message of a type's field: that of a time is without its unit."""
    bare = attribute.removesuffix("_ms")
    field = descriptor.fields_by_name.get(bare)
    return bare if field is not None and field.message_type is Timestamp.DESCRIPTOR else attribute


def _field(owner: type, attribute: str, hint: Any, field: FieldDescriptor) -> _Field:
    optional = get_origin(hint) in {Union, types.UnionType}
    kind = next(each for each in get_args(hint) if each is not type(None)) if optional else hint
    is_message = field.message_type is not None and not field.is_repeated
    default = field_defaults(owner).get(attribute) if is_message else None
    codec = _repeated(kind, field) if field.is_repeated else _codec_of(kind, field, optional=optional)
    return _Field(attribute, field.name, codec, optional, field.has_presence, default)


def _codec_of(kind: Any, field: FieldDescriptor, *, optional: bool = False) -> _Codec | None:
    """Return the codec of the values of a field, or of each of a repeated one; None: they are the same in both."""
    if field.message_type is Timestamp.DESCRIPTOR:
        return _Codec(convert.timestamp, convert.milliseconds)
    if field.message_type is Duration.DESCRIPTOR:
        return _Codec(convert.duration, convert.seconds)
    if field.enum_type is not None:
        return _enum(kind, field.enum_type, optional=optional)
    if field.message_type is None:
        return None
    if kind is bytes:
        return _Codec(GetMessageClass(field.message_type).FromString, lambda message: message.SerializeToString())
    if get_origin(kind) is tuple:
        return _parts(field.message_type)
    return _codec(kind, field.message_type)


def _repeated(kind: Any, field: FieldDescriptor) -> _Codec:
    if issubclass(get_origin(kind), Mapping):
        pair = _parts(field.message_type)
        return _Codec(
            lambda mapping: [pair.encode(each) for each in mapping.items()],
            lambda messages: dict(pair.decode(each) for each in messages),
        )
    item = _codec_of(get_args(kind)[0], field, optional=True)
    if item is None:
        collection = get_origin(kind)
        return _Codec(sorted if collection is frozenset else list, collection)
    encode, decode = item
    return _Codec(
        lambda parts: [encode(each) for each in parts],
        # values of an enum that are unknown are left out
        lambda parts: tuple(decoded for each in parts if (decoded := decode(each)) is not None),
    )


def _parts(descriptor: Any) -> _Codec:
    """Return the codec of a tuple whose parts are the fields of a message, such as a name and a value."""
    message_class = GetMessageClass(descriptor)
    names = [field.name for field in sorted(descriptor.fields, key=lambda each: each.number)]
    return _Codec(
        lambda parts: message_class(**dict(zip(names, parts, strict=True))),
        lambda message: tuple(getattr(message, name) for name in names),
    )


@cache
def _enum(kind: type[Enum], descriptor: EnumDescriptor, *, optional: bool = False) -> _Codec:
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    numbers = {each.name.removeprefix(prefix): each.number for each in descriptor.values if each.number}
    unknown = _UNKNOWN.get(kind)
    members = {member.name for member in kind if member is not unknown or member.name in numbers}
    if different := members ^ numbers.keys():
        raise TypeError(f"{kind.__name__} and {descriptor.full_name} differ in {', '.join(sorted(different))}")
    encoded = {member: numbers.get(member.name, 0) for member in kind}
    decoded = {number: kind[name] for name, number in numbers.items()}
    if optional or unknown is not None:
        return _Codec(encoded.__getitem__, lambda number: decoded.get(number, unknown))
    return _Codec(encoded.__getitem__, decoded.__getitem__)
