"""Codes of the problems that are found in flow files: stable words for programs, where texts are for people."""

from __future__ import annotations

from enum import StrEnum, auto


class Code(StrEnum):
    """A kind of problem in a flow file. docs/flow-problems.md describes each; a code is never renamed."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:  # noqa: ARG004 - of enum
        return name

    # the file
    FILE_INVALID = auto()
    YAML_INVALID = auto()
    YAML_UNSUPPORTED = auto()
    MORE_PROBLEMS = auto()
    # keys
    KEY_CONFLICT = auto()
    KEY_DUPLICATE = auto()
    KEY_MISSING = auto()
    KEY_UNKNOWN = auto()
    # values
    VALUE_CHOICE = auto()
    VALUE_FORMAT = auto()
    VALUE_MISSING = auto()
    VALUE_RANGE = auto()
    VALUE_TYPE = auto()
    CRON_INVALID = auto()
    DURATION_INVALID = auto()
    HEADER_INVALID = auto()
    PATTERN_INVALID = auto()
    SCHEMA_INVALID = auto()
    SIZE_INVALID = auto()
    URI_INVALID = auto()
    # names and references
    FLOW_DUPLICATE = auto()
    FUNCTION_DEPTH = auto()
    FUNCTION_UNKNOWN = auto()
    ITEM_INVALID = auto()
    NAME_DUPLICATE = auto()
    NAME_INVALID = auto()
    REFERENCE_UNKNOWN = auto()
    # expressions
    EXPRESSION_INVALID = auto()
    EXPRESSION_NOT_ALLOWED = auto()
    EXPRESSION_REQUIRED = auto()
    # what the parts mean together
    AUTH_INVALID = auto()
    BODY_NOT_PARSED = auto()
    CALLBACK_UNPROTECTED = auto()
    CORRELATION_INVALID = auto()
    EVENT_NOT_AWAITABLE = auto()
    RESPONSE_INVALID = auto()
    SECRET_SHARED = auto()
    SIGNATURE_UNSAFE = auto()
    UNSUPPORTED = auto()
    # warnings
    ADDRESS_NOT_ALLOWED = auto()
    ALWAYS_TRUE = auto()
    CALLBACK_NOT_AWAITED = auto()
    NAME_IS_DIRECTIVE = auto()
    NOT_AN_EXPRESSION = auto()
    PROCESS_NEEDS_PERMISSION = auto()
    SECRET_IS_VALUE = auto()
    SECRET_NOT_SET = auto()
    SHELL_INJECTION = auto()
