"""Finds the secrets that a document names, and secret names that look like secret values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from flowhook.document.definition import strings_in, walk_everywhere
from flowhook.document.diagnostics.problems import Path
from flowhook.document.loader import FlowDocument
from flowhook.document.models.calls import read_secret
from flowhook.document.models.webhook import Webhook
from flowhook.expressions.syntax import is_expression

_PREFIXES: Final = (
    "AIza", "AKIA", "ASIA", "SG.", "eyJ", "fhk_", "ghp_", "gho_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-",
    "rk_live_", "rk_test_", "shpat_", "shpss_", "sk-", "sk_live_", "sk_test_", "whsec_", "xapp-", "xoxb-", "xoxp-",
)  # fmt: skip
"""Prefixes of the secret values that vendors issue. Source: the vendors' documentation on secret scanning."""

_MIN_REST: Final = 16  # minimum number of characters after such a prefix, and in a random part of a name

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_CHANGE: Final = re.compile(r"(?<=[0-9])(?=[A-Za-z])|(?<=[A-Za-z])(?=[0-9])")
_MIN_CHANGES: Final = 5
_MIN_DIGITS: Final = 5
"""Minimum number of digits, and of changes between letters and digits: random strings have many, names few."""


def looks_like_value(name: str) -> bool:
    """Whether the name of a secret looks like a secret value: by its prefix, or because it looks random."""
    prefixed = any(name.startswith(prefix) and len(name) - len(prefix) >= _MIN_REST for prefix in _PREFIXES)
    return prefixed or _UUID.fullmatch(name) is not None or any(map(_is_random, re.split(r"[-_.]", name)))


def _is_random(text: str) -> bool:
    digits = sum(char.isdigit() for char in text)
    return len(text) >= _MIN_REST and digits >= _MIN_DIGITS and len(_CHANGE.findall(text)) >= _MIN_CHANGES


def names_of(document: FlowDocument) -> frozenset[str]:
    """Return the names in `webhook.auth`, in the `auth` of its callbacks, in `use.secrets`, and of calls."""
    verified = frozenset[str]() if document.webhook is None else document.webhook.secret_names()
    return verified.union(document.workflow.use.secrets, (name for _, name in _read_by_calls(document.definition)))


class NamedSecrets(NamedTuple):
    """The secrets that a definition names."""

    verifying: frozenset[str] = frozenset()  # those that verify requests
    expressions: frozenset[str] = frozenset()  # those that expressions may read
    # those that built-in components read when they are called, named or by default. What the components of other
    # packages read is not known.
    calls: frozenset[str] = frozenset()

    @property
    def all(self) -> frozenset[str]:
        return self.verifying | self.expressions | self.calls


def parse_names(definition: bytes) -> NamedSecrets:
    """Return the secrets that a stored definition names; ValueError: made by an incompatible version of Flowhook."""
    parts = orjson.loads(definition)
    webhook, use = parts.get("webhook"), parts.get("use") or {}
    verifying = frozenset[str]() if webhook is None else Webhook.model_validate(webhook).secret_names()
    calls = frozenset(name for _, name in _read_by_calls(parts))
    return NamedSecrets(verifying, frozenset(use.get("secrets") or ()), calls)


def secret_paths(definition: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Yield the paths below `webhook` and `use`, and in calls, at which these names occur, each with its name."""
    for key in ("webhook", "use"):
        yield from ((path, text) for path, text in strings_in(definition.get(key), (key,)) if text in names)
    yield from ((path, name) for path, name in _read_by_calls(definition) if name in names)


def _read_by_calls(definition: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for placed in walk_everywhere(definition):
        if placed.kind == "call" and (read := read_secret(placed.task)) is not None:
            yield (*placed.path, *read[0]), read[1]


def mentions_secret(definition: Mapping[str, Any], name: str) -> bool:
    """Whether a definition has a string that is this name, or an expression over `$secrets` that contains it."""
    return any(
        text == name or (is_expression(text) and "$secrets" in text and name in text)
        for _, text in strings_in(definition)
    )
