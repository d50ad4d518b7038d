"""The `flowhook` command: the top floor, where everything is wired.

`commands` holds one module per command or family of them, `supervisor` the local cluster of `flowhook up`, `supervised`
and `applying` the entry points of processes that it starts, `options` and `output` what commands share. Nothing imports
from here.

Invariants: exit code 1 for a refused request, 2 for wrong usage; errors are a few readable lines on stderr; with
`--json`, stdout carries one JSON object a line and nothing else. Commands import what they need when they run, so that
`flowhook --help` stays quick.
"""
