"""What deploy/prometheus and deploy/grafana ask Prometheus for."""

from __future__ import annotations

from typing import NamedTuple

import promql_parser
from support import deploy_files

from flowhook.process.metric_table import HISTOGRAM, METRICS

PROMETHEUS = deploy_files.DEPLOY / "prometheus"
GRAFANA = deploy_files.DEPLOY / "grafana"
OF_TARGETS = {"instance", "job", "process", "role"}
"""Labels that every series has."""

SUFFIXES = {HISTOGRAM: ["_bucket", "_count", "_sum"]}


class Selector(NamedTuple):
    """What an expression reads: a metric, and the labels by which it selects or groups."""

    metric: str
    labels: frozenset[str]


def rules(kind="alert"):
    """Return the rules of a kind, `alert` or `record`."""
    [document] = deploy_files.documents(PROMETHEUS / "alerts.yaml")
    return [rule for group in document["groups"] for rule in group["rules"] if kind in rule]


def selectors(expression):
    """Return what a PromQL expression reads; raises ValueError if it is none."""
    found = []
    _visit(promql_parser.parse(expression), frozenset(), found)
    return found


def _visit(node, grouped, found):
    match node:
        case promql_parser.VectorSelector():
            matched = frozenset(matcher.name for matcher in node.matchers.matchers)
            found.append(Selector(node.name, matched | grouped))
        case promql_parser.MatrixSelector():
            _visit(node.vector_selector, grouped, found)
        case promql_parser.AggregateExpr():
            by = node.modifier.labels if node.modifier else ()
            _visit(node.expr, grouped | frozenset(by), found)
        case promql_parser.BinaryExpr():
            on = node.modifier.matching.labels if node.modifier and node.modifier.matching else ()
            for side in (node.lhs, node.rhs):
                _visit(side, grouped | frozenset(on), found)
        case promql_parser.Call():
            for argument in node.args:
                _visit(argument, grouped, found)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            _visit(node.expr, grouped, found)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            pass
        case _:
            raise NotImplementedError(type(node))


def metrics():
    """Return the names of all series that there are, and the labels of each."""
    of_process = "cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes"
    found = {"up": set()} | {f"process_{name}": set() for name in of_process}
    for metric in METRICS.values():
        found |= {metric.name + suffix: set(metric.labels) for suffix in SUFFIXES.get(metric.kind, [""])}
        if metric.kind == HISTOGRAM:
            found[f"{metric.name}_bucket"].add("le")
    for rule in rules("record"):
        found[rule["record"]] = set.union(*(found[read.metric] for read in selectors(rule["expr"])))
    return found
