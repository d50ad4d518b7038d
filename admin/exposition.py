"""Merges the metrics of all processes into one Prometheus text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from flowhook.client import ProcessInfo
from operations.health import is_ready

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@attrs.define(eq=False, repr=False)
class _Family:
    """One metric family of all processes."""

    help: bytes = attrs.field(alias="help_")  # its first line
    type: bytes = attrs.field(alias="type_")  # its second line
    samples: list[bytes] = attrs.field(init=False, factory=list)  # the lines of its samples, one text for each process


def merge_metrics(processes: Iterable[ProcessInfo]) -> bytes:
    """Return one text with each metric family once, and `flowhook_up` for each process.

    The router has checked what the processes report, and has labelled each sample with its process. So nothing is
    parsed here: families are put together as they are, in less than a millisecond for a thousand.

    Source: Prometheus, "Exposition formats": all lines of a metric must be one group.
    """
    registry = CollectorRegistry()
    up = Gauge("flowhook_up", "1 while the process is ready.", ("process", "role"), registry=registry)
    families: dict[bytes, _Family] = {}
    for process in processes:
        up.labels(process.name, process.role).set(is_ready(process))
        for text in (b"\n" + process.metrics).split(b"\n# HELP ")[1:]:
            help_, _, rest = text.partition(b"\n")
            type_, _, samples = rest.partition(b"\n")
            if samples and type_.startswith(b"# TYPE "):
                family = families.setdefault(help_.partition(b" ")[0], _Family(help_, type_))
                if family.type == type_:
                    family.samples.append(samples.rstrip(b"\n"))
    texts = [b"# HELP %b\n%b\n%b\n" % (each.help, each.type, b"\n".join(each.samples)) for each in families.values()]
    return generate_latest(registry) + b"".join(texts)
