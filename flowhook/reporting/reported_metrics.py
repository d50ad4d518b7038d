"""Checks the metrics that a process reports, once, when it reports them, so that nobody has to parse them later.

Only what the Prometheus client writes is accepted, with bounded names, labels and values. Each series gets the labels
`process` and `role`. The text that results can be merged with that of other processes family by family, as it is.

Source: Prometheus, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from flowhook.process import logs

MAX_LABELS: Final = 16  # labels of one series, without those that are added
MAX_VALUE: Final = 256  # bytes of the value of a label
ADDED_ELSEWHERE: Final = b"flowhook_up"  # the family that the admin process adds itself
_NAME: Final = rb"[a-zA-Z_:][a-zA-Z0-9_:]{0,127}"
_LABEL: Final = rb'[a-zA-Z_][a-zA-Z0-9_]{0,63}="(?:[^"\\]|\\[\\n"]){0,%d}+"' % MAX_VALUE
_HELP: Final = re.compile(rb"# HELP (%s) .{0,1000}" % _NAME)
_TYPE: Final = re.compile(rb"# TYPE (%s) (?:counter|gauge|histogram|summary|untyped)" % _NAME)
_SAMPLE: Final = re.compile(
    rb"(?P<name>%s)(?:\{(?P<labels>%s(?:,%s){0,%d})\})? (?P<value>%s)"
    % (_NAME, _LABEL, _LABEL, MAX_LABELS - 1, rb"NaN|[-+]?(?:Inf|[0-9][0-9.]{0,24}(?:e[-+]?[0-9]{1,3})?)")
)
_OWN_SAMPLE: Final = re.compile(rb"^(%s)(?:\{(.+)\})? " % _NAME, re.MULTILINE)
_ADDED_LABEL: Final = re.compile(rb'(?:^|,)(?:process|role)="')
_SUFFIXES: Final = frozenset({b"", b"_bucket", b"_count", b"_sum"})


class ReportedMetrics(NamedTuple):
    """Metrics as they are stored: a text in which each series has the labels of its process, and their number."""

    text: bytes
    series: int


log = logs.get_logger(__name__)

NONE: Final = ReportedMetrics(b"", 0)


def labelled(text: bytes, process: str, role: str) -> bytes:
    """Return metrics that this process rendered itself, each series labelled with its name and role."""
    added = _added(process, role)
    return _OWN_SAMPLE.sub(
        lambda found: b"%b{%b%b%b} " % (found[1], added, b"," if found[2] else b"", found[2] or b""), text
    )


def _added(process: str, role: str) -> bytes:
    name = process.replace("\\", r"\\").replace('"', r"\"")
    return f'process="{name}",role="{role}"'.encode()


def check(text: bytes, process: str, role: str) -> ReportedMetrics:
    """Return the metrics of a process, labelled with its name and role; `NONE` if a line is not acceptable.

    Takes 10 to 30 µs per series. Does not hold the GIL for longer than a line takes.
    """
    try:
        return _labelled(text, process, role)
    except ValueError as error:
        log.debug("metrics not accepted", process=process, cause=str(error))
        return NONE


def _labelled(text: bytes, process: str, role: str) -> ReportedMetrics:
    added = _added(process, role)
    known: set[bytes] = set()
    lines: list[bytes] = []
    family, typed = b"", False
    for line in text.splitlines():
        if found := _HELP.fullmatch(line):
            family, typed = found[1], False
            if family == ADDED_ELSEWHERE:
                raise ValueError(f"{family.decode()} is added elsewhere")
        elif found := _TYPE.fullmatch(line):
            if typed or found[1] != family:
                raise ValueError(f"the type of {found[1].decode()} doesn't follow its help")
            typed = True
        elif found := _SAMPLE.fullmatch(line):
            series, labels, value = found["name"], found["labels"] or b"", found["value"]
            if not typed or not series.startswith(family) or series[len(family) :] not in _SUFFIXES:
                raise ValueError(f"{series.decode()} is not in its family")
            identity = line[: found.start("value")]
            if identity in known or _ADDED_LABEL.search(labels):
                raise ValueError(f"{series.decode()} occurs twice, or has a label that is added to it")
            known.add(identity)
            line = b"%b{%b%b%b} %b" % (series, added, b"," if labels else b"", labels, value)  # noqa: PLW2901
        else:
            raise ValueError("a line is neither help, nor type, nor sample")
        lines.append(line + b"\n")
    return ReportedMetrics(b"".join(lines), len(known))
