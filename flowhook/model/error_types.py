"""Types of the standard's errors: URIs, of which several spellings mean the same error.

The standard was renamed in 2026, and its conformance kit has a base of its own. `WorkflowError` has a standard type in
its present spelling, however it was written, received or stored; so types are compared as they are. What flows see is
spelled as they choose (`execution.error_types`).

Source: dsl-reference.md, "Standard Error Types", of Open Workflow and of Serverless Workflow 1.0.3; ctk/features.
"""

from __future__ import annotations

import re
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

ERROR_TYPE_BASE: Final = "https://open-workflow-specification.org/spec/1.0.0/errors/"
"""Beginning of the present spelling of each standard type; the rest is its `Kind`."""

_EARLIER_BASE: Final = "https://serverlessworkflow.io/spec/1.0.0/errors/"
_BASES: Final = (
    ERROR_TYPE_BASE,
    _EARLIER_BASE,
    "https://open-workflow-specification.org/dsl/errors/types/",
    "https://serverlessworkflow.io/dsl/errors/types/",
)

NAMESPACES: Final = tuple(
    f"{scheme}://{host}/{folder}/"
    for scheme in ("https", "http")
    for host in ("open-workflow-specification.org", "serverlessworkflow.io")
    for folder in ("spec", "dsl")
)
"""Beginnings of URIs that only the standard defines types with."""

TYPE_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:|/)\S+")
"""A type that a flow may raise: a URI, or a reference that begins with a slash (RFC 3986, section 4.1)."""


class Kind(StrEnum):
    """The standard error types."""

    CONFIGURATION = "configuration"
    VALIDATION = "validation"
    EXPRESSION = "expression"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    TIMEOUT = "timeout"
    COMMUNICATION = "communication"
    RUNTIME = "runtime"


Spelling = Literal["open-workflow", "serverless-workflow"]

_CHOICES: Final[MappingProxyType[Spelling, str]] = MappingProxyType(
    {"open-workflow": ERROR_TYPE_BASE, "serverless-workflow": _EARLIER_BASE}
)
_STANDARD: Final = {base + kind: ERROR_TYPE_BASE + kind for base in _BASES for kind in Kind}


def standard_type(type_: str) -> str:
    """Return the present spelling of a standard type, and any other type as it is."""
    return _STANDARD.get(type_, type_)


def is_standard(type_: str) -> bool:
    return type_ in _STANDARD


def spellings(type_: str) -> tuple[str, ...]:
    """Return all URIs that mean the same error as one."""
    kind = standard_type(type_).removeprefix(ERROR_TYPE_BASE)
    return tuple(base + kind for base in _BASES) if is_standard(type_) else (type_,)


def spelled(type_: str, spelling: Spelling) -> str:
    """Return a type, a standard one in a spelling."""
    standard = standard_type(type_)
    return _CHOICES[spelling] + standard.removeprefix(ERROR_TYPE_BASE) if is_standard(type_) else type_


def respelled(program: str, spelling: Spelling) -> str:
    """Return an expression in which the bases of standard types are in a spelling: what it compares `$error` with."""
    for base in _BASES:
        program = program.replace(base, _CHOICES[spelling])
    return program
