"""Keys of events: what orders, deduplicates, finds and shapes the executions that they start.

They are those of `webhook.dedupe`, and of `order_by`, `search`, `rate`, `concurrency`, `priority`, and `debounce` or
`batch` of `execution`.

They are computed once, when an event is accepted, and stored with it. The edge computes them from the content that it
has parsed anyway; the router computes them for events that it receives otherwise. The expressions, which were checked
when the flow was applied, see the workflow's input without attachments. Constructors raise `InvalidExpression` for one
that is not of the subset that runs outside the runner (`flowhook.expressions.paths`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs
import orjson

from flowhook import limits
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import ExpressionTypeError, strip_markers
from flowhook.payloads.field_types import FieldTypes, with_types

MAX_DEDUPE_BYTES: Final = 4096  # longest dedupe key, in bytes of UTF-8; a longer one is replaced by its SHA-256

MAX_NAME: Final = 64  # characters of the name of a search attribute
MAX_VALUE: Final = 200  # characters of its value
ATTRIBUTE_NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_-]*$"

MAX_PRIORITY: Final = 9  # of the executions of a flow; the least, and the default, is 0

Attributes = tuple[tuple[str, str], ...]
"""Names and values."""


def order_expression(execution: Mapping[str, Any]) -> str | None:
    """Return the expression of the order key in the `execution` of a checked flow file; None: events have no order."""
    written = execution.get("order_by")
    return written["key"] if isinstance(written, Mapping) else written


class OrderKey:
    """The `order_by` of a flow, compiled. Keys have at most `limits.MAX_ORDER_KEY_BYTES`.

    A string is the key itself; any other value is encoded as JSON. An event has no key (an empty one), and runs without
    ordering, if the expression fails or yields null or a value that can't be encoded.
    """

    __slots__ = ("_accessor",)

    def __init__(self, expression: str) -> None:
        self._accessor = compile_accessor(strip_markers(expression), variables=())

    def of_view(self, view: object) -> str:
        try:
            text = _text(self._accessor(view), orjson.OPT_SORT_KEYS)
        except (ExpressionTypeError, orjson.JSONEncodeError):  # orjson reads deeper nesting than it writes
            return ""
        encoded = text.encode()
        if len(encoded) <= limits.MAX_ORDER_KEY_BYTES:
            return text
        return f"blake2b:{hashlib.blake2b(encoded, digest_size=32).hexdigest()}"


class DedupeKey:
    """The `dedupe.key` of a flow, compiled, without the prefix that names the kind of `auth`.

    An event whose key is empty is never a duplicate by it.
    """

    __slots__ = ("_accessor", "expression")

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._accessor = compile_accessor(strip_markers(expression))

    def of_view(self, view: object) -> str:
        try:
            text = _text(self._accessor(view))
        except (ExpressionTypeError, orjson.JSONEncodeError):
            return ""
        if len(text) <= MAX_DEDUPE_BYTES // 4:
            return text
        encoded = text.encode("utf-8", "replace")
        return text if len(encoded) <= MAX_DEDUPE_BYTES else "sha256:" + hashlib.sha256(encoded).hexdigest()


def _text(value: object, option: int = 0) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, option=option).decode()


class SearchAttributes:
    """The `search` of a flow, compiled: the values by which executions are found.

    A text is cut after `MAX_VALUE` characters; numbers and booleans are written as JSON. An attribute is absent if its
    path yields anything else, an empty text included, or fails.
    """

    __slots__ = ("_accessors",)

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._accessors = [
            (name, compile_accessor(strip_markers(each), variables=())) for name, each in expressions.items()
        ]

    def of_view(self, view: object) -> Attributes:
        found: list[tuple[str, str]] = []
        for name, accessor in self._accessors:
            try:
                value = accessor(view)
            except ExpressionTypeError:
                continue
            if value != "" and isinstance(value, str | bool | int | float):
                found.append((name, cut_value(_text(value))))
        return tuple(found)


def cut_value(value: str) -> str:
    """Return what is stored of a text."""
    return value[:MAX_VALUE]


class ShapingKeys(NamedTuple):
    """The keys by which the execution of one event is shaped."""

    rate: str = ""  # executions with the same key share a rate; empty: those without a key share one
    concurrency: str = ""  # at most so many executions with the same key run at a time; empty: no such limit
    priority: int = 0  # in [0, `MAX_PRIORITY`]: those of a higher one run first
    group: str = ""  # one runs of the executions with the same key that are debounced or batched; empty: not so
    size: int = 0  # bytes of an event that is to be batched; 0: it is not
    events: int = 1  # those of the batch that the execution runs for, or its event was in
    batch: str = ""  # ID of the execution that first ran for them; empty: it ran for its own event

    def pack(self) -> str:
        """Return them as text, for storage."""
        return orjson.dumps([*self]).decode()

    @classmethod
    def unpack(cls, packed: str | bytes) -> ShapingKeys:
        return cls(*orjson.loads(packed))

    def without_group(self) -> ShapingKeys:
        return self._replace(group="", size=0)

    def batched(self, revision: int, size: int) -> ShapingKeys:
        """Return the keys of an event of a flow that batches them: a batch has events of one revision of the flow."""
        return self._replace(group=f"{revision} {self.group}", size=max(size, 1)) if self.group else self


UNSHAPED: Final = ShapingKeys()
_ALL: Final = '${ "all" }'  # the key of a flow that batches its events without regard to one


def rate_fingerprint(flow_id: str, key: str) -> bytes:
    """Return what the line of a rate is stored under: not its key, which may be somebody's address."""
    return hashlib.blake2b(f"{flow_id}\0{key}".encode(), digest_size=16, person=b"rate").digest()


def shaping_expressions(execution: Mapping[str, Any]) -> dict[str, str]:
    """Return the expressions of keys in the `execution` of a checked flow file, by the names of `ShapingKeys`."""
    found: dict[str, str] = {}
    for name, limit in (("rate", "rate"), ("concurrency", "concurrency"), ("group", "debounce"), ("group", "batch")):
        value = execution.get(limit)
        if isinstance(value, Mapping) and value.get("key") is not None:
            found[name] = value["key"]
        elif limit == "batch" and value is not None:
            found[name] = _ALL
    if isinstance(execution.get("priority"), str):
        found["priority"] = execution["priority"]
    return found


class ShapingExpressions:
    """The result of `shaping_expressions`, compiled."""

    __slots__ = ("_keys", "_priority")

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._keys = [(name, OrderKey(each)) for name, each in expressions.items() if name != "priority"]
        self._priority = OrderKey(expressions["priority"]) if "priority" in expressions else None

    def of_view(self, view: object) -> ShapingKeys:
        keys = {name: key.of_view(view) for name, key in self._keys}
        priority = 0 if self._priority is None else read_priority(self._priority.of_view(view))
        return ShapingKeys(keys.get("rate", ""), keys.get("concurrency", ""), priority, keys.get("group", ""))


def read_priority(text: str) -> int:
    """Return the priority that a value amounts to: that of a number is the nearest one there is, of all else 0."""
    try:
        return min(max(int(float(text)), 0), MAX_PRIORITY)
    except (ValueError, OverflowError):
        return 0


class EventKeys(NamedTuple):
    """The keys of an event, but for that by which repeated ones are found."""

    order_key: str = ""
    attributes: Attributes = ()
    shaping: ShapingKeys | None = None  # None: its flow has no keys of shaping

    def pack(self) -> tuple[bytes, bytes, bytes]:
        """Return them as bytes, to be passed between processes."""
        shaping = b"" if self.shaping is None else self.shaping.pack().encode()
        return self.order_key.encode(), orjson.dumps(self.attributes), shaping

    @classmethod
    def unpack(cls, packed: Sequence[bytes]) -> EventKeys:
        order_key, attributes, shaping = packed
        found = tuple((name, value) for name, value in orjson.loads(attributes))
        return cls(order_key.decode(), found, ShapingKeys.unpack(shaping) if shaping else None)


@attrs.define(eq=False, repr=False)
class KeyExpressions:
    """The `order_by`, the `search` and the `shaping` of a flow (see `shaping_expressions`), compiled.

    `fields`: types of fields of forms and queries, of views whose fields are not converted yet.
    `raw`: its `webhook` leaves bodies unparsed: `.body` is null then, as in the workflow's input.
    """

    order_by: str | None = None
    search: Mapping[str, str] = attrs.field(factory=dict)
    shaping: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    webhook: bool = attrs.field(default=True, kw_only=True)
    raw: bool = attrs.field(default=False, kw_only=True)
    fields: FieldTypes = attrs.field(factory=dict, kw_only=True)
    _order_key: OrderKey | None = attrs.field(init=False)
    _attributes: SearchAttributes = attrs.field(init=False)
    _shaping: ShapingExpressions | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._order_key = None if self.order_by is None else OrderKey(self.order_by)
        self._attributes = SearchAttributes(self.search)
        self._shaping = ShapingExpressions(self.shaping) if self.shaping else None

    def __bool__(self) -> bool:
        """Whether there is anything to compute."""
        return self.order_by is not None or bool(self.search or self.shaping)

    def of_view(self, view: object) -> EventKeys:
        view = with_types(view, self.fields)
        order_key = "" if self._order_key is None else self._order_key.of_view(view)
        shaping = None if self._shaping is None else self._shaping.of_view(view)
        return EventKeys(order_key, self._attributes.of_view(view), shaping)
