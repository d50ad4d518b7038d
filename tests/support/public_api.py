"""The public API as text, a line for each thing that users rely on.

Python: the names that the docs tell users to import, and every public class of ours that their signatures and fields
mention, such as what a method of the client returns. `flowhook.*.Execution` is a class that users get, not one that
they import: it may move between modules.

gRPC: messages, fields and their numbers, enums, methods and what is reserved, from the descriptors of `flowhook.v1`.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import pkgutil
import re
import sys
import textwrap
import typing
from collections import Counter
from importlib import import_module

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from pydantic import BaseModel

DOCUMENTED = {
    "flowhook.client": (),
    "flowhook.components": (),
    "flowhook.components.testing": (),
    "flowhook.process.settings": ("RunnerSettings",),
    "flowhook.errors": (),
    "flowhook.events.ids": ("mint", "slot_of"),
    "flowhook.model": ("Status",),
    "flowhook.model.replays": ("ReplayOptions",),
}
"""Names to import, by module; none: the module's `__all__`, or else all classes that it defines."""

_PACKAGES = ("flowhook", "runner")
_SPECIAL = ("__aenter__", "__call__", "__enter__")
"""Special methods that users call, or have Python call."""


class Fact(typing.NamedTuple):
    """A line of the text: what stands before and after the name that it is about, and the classes that it mentions."""

    before: str
    after: str
    mentions: tuple[type, ...] = ()


class _Shown:
    """Stands for an annotation or a default in a signature: its `repr` is the text to show."""

    def __init__(self, text):
        self._text = text

    def __repr__(self):
        return self._text


def text():
    """Return the whole API."""
    return "\n".join([*python_lines(), *proto_lines()]) + "\n"


def documented():
    """Return what users import, by its full name."""
    found = {}
    for module_name, names in DOCUMENTED.items():
        module = import_module(module_name)
        for name in names or getattr(module, "__all__", None) or _defined(module):
            found[f"{module_name}.{name}"] = getattr(module, name)
    return found


def python_lines():
    public = documented()
    facts, waiting = {}, list(public.values())
    while waiting:
        value = waiting.pop()
        if value not in facts:
            facts[value] = list(_class_facts(value) if isinstance(value, type) else _call("", value))
            waiting += [each for fact in facts[value] for each in fact.mentions]
    names = _short_names(set(facts) - set(public.values())) | {value: name for name, value in public.items()}
    return [
        fact.before + names[value] + fact.after
        for value in sorted(facts, key=lambda value: names[value])
        for fact in facts[value]
    ]


def _short_names(classes):
    """Name classes without their modules, except for those that would share a name."""
    short = {each: f"{each.__module__.partition('.')[0]}.*.{each.__qualname__}" for each in classes}
    used = Counter(short.values())
    return {each: name if used[name] == 1 else f"{each.__module__}.{each.__qualname__}" for each, name in short.items()}


def _defined(module):
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def _class_facts(cls):
    bases = [each.__name__ for each in cls.__bases__ if each is not object and not each.__name__.startswith("_")]
    yield Fact("class ", f"({', '.join(bases)})" if bases else "")
    made = dataclasses.is_dataclass(cls) or issubclass(cls, BaseModel | tuple | enum.Enum)
    init = inspect.getattr_static(cls, "__init__")
    if inspect.isfunction(init) and _is_ours(init) and not made:
        yield from _call(".__init__", init, bound=True)
    yield from _members(cls)


def _members(cls):
    if issubclass(cls, enum.Enum):
        yield from (Fact("", f".{name} = {member.value!r}") for name, member in cls.__members__.items())
    fields = _fields(cls)
    yield from fields.values()
    yield from _attributes(cls)
    found = {}
    for base in _bases(cls):
        found |= vars(base)
    for name, value in sorted(found.items()):
        if (name.startswith("_") and name not in _SPECIAL) or name in fields:
            continue
        if isinstance(value, property):
            yield from _property(name, value.fget)
        elif isinstance(value, staticmethod):
            yield from _call(f".{name}", value.__func__)
        elif isinstance(value, classmethod):
            yield from _call(f".{name}", value.__func__, bound=True)
        elif inspect.isfunction(value):
            yield from _call(f".{name}", value, bound=True)
        elif isinstance(value, str | int | float) and not issubclass(cls, enum.Enum):
            yield Fact("", f".{name} = {value!r}")


def _fields(cls):
    """Return the annotated attributes by name, in the order in which they are declared: arguments may be in it."""
    found = {}
    for base in _bases(cls):
        for name, annotation in inspect.get_annotations(base).items():
            if not name.startswith("_"):
                shown = _annotation(annotation)
                found[name] = Fact("", f".{name}: {shown}{_default_of(cls, name)}", _mentions(shown, base))
    return found


def _default_of(cls, name):
    if dataclasses.is_dataclass(cls):
        field = cls.__dataclass_fields__[name]
        has_one = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        return f" = {_value(field.default)}" if has_one else ""
    if issubclass(cls, BaseModel):
        field = cls.model_fields.get(name)
        return "" if field is None or field.is_required() else f" = {_value(field.default)}"
    defaults = getattr(cls, "_field_defaults", {})
    return f" = {_value(defaults[name])}" if name in defaults else ""


def _attributes(cls):
    """Yield the public attributes that `__init__` sets; one that is a part of its owner by the members of its class."""
    found = {}
    for base in _bases(cls):
        init = vars(base).get("__init__")
        if inspect.isfunction(init) and _is_ours(init) and not dataclasses.is_dataclass(base):
            found |= {name: (base, expression) for name, expression in _assigned(init)}
    for name, (base, expression) in sorted(found.items()):
        value = getattr(sys.modules[base.__module__], expression, None)
        if isinstance(value, type) and _is_part(value):
            yield from (Fact(each.before, f".{name}{each.after}", each.mentions) for each in _members(value))
        else:
            yield Fact("", f".{name}: {expression}" if expression else f".{name}", _mentions(expression, base))


def _is_part(cls):
    """Return whether users reach a class only as an attribute: it is private, or one of the services of a client."""
    return cls.__name__.startswith("_") or cls.__module__.startswith(("flowhook.client.aio.", "flowhook.client.sync."))


def _assigned(init):
    """Yield the name of each public attribute that is set, and its type as text, empty if the source does not say it.

    The source says it by an annotation, by calling a class, or by assigning a parameter.
    """
    parameters = inspect.signature(init).parameters
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init)))):
        match node:
            case ast.AnnAssign(ast.Attribute(ast.Name("self"), name), annotation):
                shown = ast.unparse(annotation)
            case ast.Assign([ast.Attribute(ast.Name("self"), name)], value):
                shown = _type_of(value, parameters)
            case _:
                continue
        if not name.startswith("_"):
            yield name, shown


def _type_of(expression, parameters):
    match expression:
        case ast.Call(ast.Name(called)) if called.lstrip("_")[:1].isupper():
            return called
        case ast.Name(given) if given in parameters:
            return _annotation(parameters[given].annotation)
    return ""


def _property(name, function):
    shown = _annotation(inspect.signature(function).return_annotation)
    yield Fact("", f".{name}: {shown} (property)", _mentions(shown, function))


def _call(after, function, *, bound=False):
    """Yield the fact about a function: its parameters and its result."""
    signature = inspect.signature(function)
    parameters = [
        each.replace(
            annotation=each.annotation if each.annotation is each.empty else _Shown(_annotation(each.annotation)),
            default=each.default if each.default is each.empty else _Shown(_value(each.default)),
        )
        for each in list(signature.parameters.values())[1 if bound else 0 :]
    ]
    given = signature.return_annotation
    returned = given if given is signature.empty else _Shown(_annotation(given))
    shown = str(signature.replace(parameters=parameters, return_annotation=returned))
    mentions = _mentions(shown, inspect.unwrap(function))
    yield Fact("async " if inspect.iscoroutinefunction(function) else "", after + shown, mentions)


def _annotation(annotation):
    """Return an annotation as it is written. Named tuples have it as a forward reference."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if annotation is inspect.Signature.empty:
        return ""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


def _value(value):
    """Return a default as text that is the same in every process and with every Python."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    return "()" if isinstance(value, tuple) and not value else "..."


def _mentions(shown, owner):
    """Return the public classes of ours whose names are in a text, as the module of `owner` understands them."""
    known = vars(sys.modules[owner.__module__])
    named = [known.get(name) for name in re.findall(r"\b[A-Za-z]\w*", re.sub(r"'[^']*'", "", shown))]
    return tuple(each for each in named if isinstance(each, type) and _is_ours(each))


def _bases(cls):
    """Return a class of ours and those of ours that it inherits from, the most general one first."""
    return [each for each in reversed(cls.__mro__) if _is_ours(each)]


def _is_ours(value):
    return value.__module__.partition(".")[0] in _PACKAGES


def proto_lines():
    lines = []
    for module in pkgutil.iter_modules(import_module("flowhook.v1").__path__, "flowhook.v1."):
        if module.name.endswith("_pb2"):
            file = FileDescriptorProto()
            import_module(module.name).DESCRIPTOR.CopyToProto(file)
            for message in file.message_type:
                lines += _message(message, file.package)
            for each in file.enum_type:
                lines += _enum(each, file.package)
            for service in file.service:
                lines += _service(service, file.package)
    return sorted(lines)


def _message(message, package):
    name = f"{package}.{message.name}"
    maps = {f".{name}.{each.name}": each for each in message.nested_type if each.options.map_entry}
    yield f"message {name}"
    for field in message.field:
        deprecated = " (deprecated)" if field.options.deprecated else ""
        yield f"message {name}.{field.name} = {field.number}: {_type(field, maps)}{_oneof(field, message)}{deprecated}"
    for each in message.reserved_range:
        yield f"message {name} reserves {each.start} to {each.end - 1}"
    for each in message.reserved_name:
        yield f"message {name} reserves {each}"
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _message(nested, name)
    for nested in message.enum_type:
        yield from _enum(nested, name)


def _type(field, maps):
    if field.type_name in maps:
        key, value = maps[field.type_name].field
        return f"map<{_type(key, maps)}, {_type(value, maps)}>"
    name = field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _oneof(field, message):
    in_one = field.HasField("oneof_index") and not field.proto3_optional
    return f" (oneof {message.oneof_decl[field.oneof_index].name})" if in_one else ""


def _enum(declared, package):
    name = f"{package}.{declared.name}"
    for value in declared.value:
        yield f"enum {name}.{value.name} = {value.number}"
    for each in declared.reserved_range:
        yield f"enum {name} reserves {each.start} to {each.end}"
    for each in declared.reserved_name:
        yield f"enum {name} reserves {each}"


def _service(service, package):
    for method in service.method:
        request = "stream " * method.client_streaming + method.input_type.lstrip(".")
        response = "stream " * method.server_streaming + method.output_type.lstrip(".")
        yield f"method {package}.{service.name}.{method.name}({request}) returns {response}"
