"""The server that forks: what it does about strays that a sweep leaves."""

from __future__ import annotations

import socket

import pytest

from runner.processes.orphans import Sweep
from runner.worker import fork_server


@pytest.fixture
def link():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_it_sweeps_again_for_as_long_as_strays_are_left_and_serves_meanwhile(monkeypatch, link):
    ours, theirs = link
    server = fork_server._Server(theirs)
    left = [Sweep(1, is_over=False), Sweep(1, is_over=False), Sweep(1, is_over=True)]
    swept = []

    def sweep(_is_orphan, *, rounds):
        swept.append(rounds)
        if len(swept) == len(left):
            ours.close()  # it serves until then
        return left[len(swept) - 1]

    monkeypatch.setattr(fork_server.orphans, "kill_orphans", sweep)
    monkeypatch.setattr(server, "_sweep_at", 1e-9)  # long ago
    server.run()
    assert len(swept) == len(left)
