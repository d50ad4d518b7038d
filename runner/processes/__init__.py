"""Runs the processes that flows start, with resource limits; each is killed in the end with all its descendants.

Each process is the child of a `launcher`, a small separate process that sets its limits and adopts orphaned descendants
(a subreaper). One socket connects runner and launcher, the lifeline: when the runner closes it, or dies, all
descendants of the launcher are killed. `flow_processes` is the runner's side. A process may kill its launcher; the next
subreaper up the tree then adopts and kills the remaining processes (`orphans`).

A process has all the permissions of the runner's user: there are resource limits here, but no sandbox.
"""
