"""What is known of a flow's input before a request came: its members, which of them are texts, what senders document.

Source: `flowhook.events.workflow_input`; the samples of providers; JSON Schema 2020-12, "Applicators".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from flowhook.document.definition import value_at
from flowhook.document.diagnostics.problems import suggestion
from flowhook.document.loader import FlowDocument
from flowhook.document.models.auth import ProviderAuth
from flowhook.expressions.data_flow import Read
from flowhook.limits import MAX_BODY_BYTES
from flowhook.payloads.field_types import is_form
from flowhook.payloads.parsing import parse
from flowhook.providers.sample_files import all_samples

_MEMBERS: Final = ("id", "received_at", "method", "path", "query", "headers", "content_type", "body", "attachments")
_BODY: Final = "body"

_OPEN: Final = frozenset({"standard-webhooks", "elasticio", "azure-event-grid", "aws-sns"})
"""Providers that carry what others send: their samples say nothing about the content."""

_COMBINED: Final = frozenset(
    {
        *("allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "dependentSchemas", "$dynamicRef"),
        "unevaluatedProperties",
    }
)
"""Keywords of a JSON Schema by which other members than those of `properties` may be meant."""

_TEXTUAL: Final = frozenset({"string", None})
_MIN_LENGTH: Final = 5  # of names in which one slip is recognized: `date` and `data` may both be meant


class KnownInput:
    """The input of a flow, as far as its document and the samples of its senders describe it."""

    def __init__(self, document: FlowDocument) -> None:
        definition, webhook = document.definition, document.webhook
        self.is_request = webhook is not None and "schedule" not in definition
        self._batches = document.execution.batch is not None
        self._fields = {} if webhook is None else webhook.fields
        places = (("webhook", "accept"), () if self._batches else ("input",))
        schemas = (value_at(definition, (*place, "schema", "document")) for place in places if place)
        # what starts a flow on a schedule, or calls it, does not pass `accept`
        self._schemas = [each for each in schemas if isinstance(each, Mapping)] if "schedule" not in definition else []
        kinds = () if webhook is None else webhook.auth
        providers = frozenset(kind.kind for kind in kinds if isinstance(kind, ProviderAuth)) - _OPEN
        known = bool(kinds) and len(providers) == len({kind.kind for kind in kinds})
        samples = _bodies(providers) if known and self.is_request else ()
        self._samples = [body for _, body in samples]
        self._forms = [is_form for is_form, _ in samples]
        wanted = value_at(definition, ("webhook", "accept", "filter"))
        self._sorts_out = isinstance(wanted, str) and "content_type" in wanted

    def _steps(self, read: Read) -> tuple[str | int | None, ...]:
        """Return the path in the input, or in that of each event; empty: it leads elsewhere."""
        if read.root or not (self.is_request or self._schemas):
            return ()
        if self._batches:
            return () if not read.steps or isinstance(read.steps[0], str) else read.steps[1:]
        return read.steps

    def text(self, read: Read) -> tuple[str, str]:
        """Return why a part of the input is no number, and what to do; empty: it may be one.

        A body is a form if senders send forms, or may be one if it is unknown what they send.
        """
        steps = self._steps(read) if self.is_request else ()
        convert = f"write ({read.text} | tonumber)"
        while steps and steps[-1] is None:
            steps = steps[:-1]
        match steps:
            case ("headers", str()):
                return "is a text, as all headers are", convert
            case ("query" | "body" as place, str(name)) if name not in self._fields and self._may_be_text(steps):
                declare = f"declare it in `webhook.fields: {{{name}: number}}`"
                if place == "query":
                    return "is a text, as all of a query is", f"{declare}, or {convert}"
                if self._forms and all(self._forms):
                    return "is a text, as all fields of forms are", f"{declare}, or {convert}"
                if not self._samples and not self._sorts_out:
                    return "is a text where a form brings it", declare
        return "", ""

    def _may_be_text(self, steps: tuple[str | int | None, ...]) -> bool:
        return all(_types(schema, steps) & _TEXTUAL for schema in self._schemas)

    def unknown(self, read: Read) -> tuple[str, str]:
        """Return the path as far as it is unknown, and what is wrong with it; empty: nothing is known to be wrong."""
        steps = self._steps(read)
        before = read.steps[: len(read.steps) - len(steps)]
        if steps:
            for length, cause in self._slips(steps):
                return Read("", (*before, *steps[:length])).text, cause
        return "", ""

    def _slips(self, steps: tuple[str | int | None, ...]) -> Iterator[tuple[int, str]]:
        for schema in self._schemas:
            yield from _outside_schema(schema, steps)
        first, *rest = steps
        if not self.is_request:
            return
        if isinstance(first, str) and first not in _MEMBERS:
            meant = suggestion(first, _MEMBERS) or f"; the content of a request is in `.body`, as in `.body.{first}`"
            yield 1, f"is null: the input has no such member{meant}"
        if first == "headers" and rest and isinstance(rest[0], str) and rest[0] != rest[0].lower():
            yield 2, f"is null: names of headers are in lower case, write {Read('', ('headers', rest[0].lower())).text}"
        if first == _BODY and self._samples:
            yield from ((length + 1, cause) for length, cause in _outside_samples(self._samples, rest))


@cache
def _bodies(providers: frozenset[str]) -> tuple[tuple[bool, Any], ...]:
    """Return the parsed bodies of the samples of providers, each after whether it is a form."""
    return tuple(
        (is_form(each.content_type), parse(each.content_type, each.body.encode(), (), limit=MAX_BODY_BYTES).body)
        for each in all_samples()
        if each.provider in providers
    )


def _outside_samples(bodies: Iterable[Any], steps: Iterable[str | int | None]) -> Iterator[tuple[int, str]]:
    """Yield the length of the path up to a member that no sample has, if one of them has one that is spelled alike.

    Samples are shorter than what is sent: that they lack a member alone says nothing.
    """
    places = list(bodies)
    for length, step in enumerate(steps, 1):
        if isinstance(step, str):
            known = {name for place in places if isinstance(place, Mapping) for name in place}
            if step not in known:
                if meant := _meant(step, known):
                    yield length, f"is in no sample of the provider, did you mean {meant!r}?"
                return
            places = [place[step] for place in places if isinstance(place, Mapping) and step in place]
        else:
            places = [item for place in places if isinstance(place, list) for item in place]


def _outside_schema(schema: Mapping[str, Any], steps: Iterable[str | int | None]) -> Iterator[tuple[int, str]]:
    """Yield the length of the path up to a member that a schema excludes, or that it has under a similar name."""
    place: Any = schema
    for length, step in enumerate(steps, 1):
        place = _resolved(schema, place)
        if place is None:
            return
        properties = place.get("properties")
        if isinstance(step, str) and isinstance(properties, Mapping) and step not in properties:
            meant = _meant(step, properties)
            if place.get("additionalProperties") is False:
                yield length, f"is not in the schema of the input{suggestion(step, properties)}"
            elif meant and "additionalProperties" not in place:
                yield length, f"is not in the schema of the input, did you mean {meant!r}?"
            return
        place = _below(place, step)


def _types(schema: Mapping[str, Any], steps: Iterable[str | int | None]) -> frozenset[str | None]:
    """Return the types that a schema allows a part of the input; None among them: it says nothing."""
    place: Any = schema
    for step in steps:
        place = _resolved(schema, place)
        place = None if place is None else _below(place, step)
    place = _resolved(schema, place)
    allowed = None if place is None else place.get("type")
    return frozenset(allowed if isinstance(allowed, list) else (allowed,))


def _resolved(schema: Mapping[str, Any], place: Any) -> Mapping[str, Any] | None:
    """Return a part of a schema that says all about a value; None: other parts do so, too."""
    for _ in range(_MAX_REFERENCES):
        reference = place.get("$ref") if isinstance(place, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        place = value_at(schema, tuple(reference[2:].split("/")))
    return place if isinstance(place, Mapping) and not _COMBINED & place.keys() and "$ref" not in place else None


_MAX_REFERENCES: Final = 8  # from one reference to the next


def _below(place: Mapping[str, Any], step: str | int | None) -> Any:
    return value_at(place, ("properties", step)) if isinstance(step, str) else place.get("items")


def _meant(word: str, known: Iterable[str]) -> str:
    """Return the only name from which a word differs in case and separators, or by one slip within it; else empty."""
    found = [each for each in known if _plain(each) == _plain(word) or _is_slip(word, each)]
    return found[0] if len(found) == 1 else ""


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _is_slip(word: str, name: str) -> bool:
    """Whether one letter is missing, added or another one, or two are exchanged; not at the end, as in a plural."""
    if min(len(word), len(name)) < _MIN_LENGTH or abs(len(word) - len(name)) > 1:
        return False
    start = next((at for at, pair in enumerate(zip(word, name, strict=False)) if pair[0] != pair[1]), None)
    if start is None:  # they are equal, or one begins with the other
        return False
    one, other = word[start:], name[start:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    exchanged = one == other[::-1] and len(set(one)) == len(one) == len("ab")
    return (exchanged or max(len(one), len(other)) <= 1) and (one + other).isalpha()
