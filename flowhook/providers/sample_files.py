"""Events of the providers as tests send them: the files of `flowhook/providers/samples`.

Each was written for Flowhook after the page that it names; its IDs, names and addresses are test values. A file is a
JSON object with `title`, `source`, `values` (expressions for what tells most of the event, by name; default: its body),
`content_type` (default `application/json`), `headers` (an object), and either `body` (a JSON value) or `text` (the body
as it is). Tests of flows (`flowhook test`) have the same format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import orjson

from flowhook.errors import NotFoundError

_FOLDER: Final = "samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """An event of a provider."""

    name: str  # `PROVIDER/EVENT`
    provider: str  # name of the provider, as in `flowhook.providers`
    title: str  # what happened, for people
    source: str  # the provider's page that documents the event
    values: tuple[tuple[str, str], ...]  # name and jq expression of values of the event, for the input of a flow
    content_type: str  # media type of the body
    headers: tuple[tuple[str, str], ...]  # those that name the event, in order; without signatures
    body: str  # the body as text; JSON is indented


@cache
def all_samples() -> tuple[Sample, ...]:
    """Return all samples by name. Blocking: reads some 30 small files at the first call."""
    folder = resources.files("flowhook.providers") / _FOLDER
    found = [
        read_sample(f"{provider.name}/{file.name.removesuffix('.json')}", orjson.loads(file.read_bytes()))
        for provider in folder.iterdir()
        for file in provider.iterdir()
    ]
    return tuple(sorted(found, key=lambda sample: sample.name))


def get_sample(name: str) -> Sample:
    """Return a sample by its name; NotFoundError: not found (`SAMPLE_NOT_FOUND`)."""
    for sample in all_samples():
        if sample.name == name:
            return sample
    raise NotFoundError(f"there is no sample {name[:100]!r}", reason="SAMPLE_NOT_FOUND")


def read_sample(name: str, data: Mapping[str, Any]) -> Sample:
    """Return the sample that an object describes; `KeyError`: it has no body."""
    body = data["text"] if "text" in data else orjson.dumps(data["body"], option=orjson.OPT_INDENT_2).decode()
    return Sample(
        name=name,
        provider=name.partition("/")[0],
        title=data.get("title", ""),
        source=data.get("source", ""),
        values=tuple(data.get("values", {"body": ".body"}).items()),
        content_type=data.get("content_type", "application/json"),
        headers=tuple(data.get("headers", {}).items()),
        body=body,
    )
