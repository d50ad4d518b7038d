"""Processes that flows start: bounded, watched, and gone in the end with all that they started.

Each is the child of a `launcher`, a small process of its own that sets its limits and adopts what it leaves behind.
Between runner and launcher there is one socket, the lifeline: when the runner closes it, or dies, everything below the
launcher is killed. `launchers` and `pool` are the runner's side of it. A process may kill its launcher: what is left
behind then is ended by who adopts it next (`strays`).

What a process may do is what the runner's user may do: there are limits here, and no walls.
"""
