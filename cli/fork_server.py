"""Forks the processes of a cluster, which share the memory of their code: `python -I -m cli.fork_server SOCKET_FD`.

The supervisor is at the other end of the socket (`ChildProcess`). It names the process and its role, and passes the
socket over which the process gets its settings; this process never sees any, and has an environment
without secrets, which workers of runners inherit. The code of a role is imported when it is asked for first, so that
routers, which others wait for, need not wait for the code of the others.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module

from typing_extensions import override

from cli import supervised
from cli.roles import ROLES
from flowhook.process import kernel
from flowhook.process.supervisor_socket import PARENT_FD
from flowhook.sandbox.fork_server import ForkServer


def main(descriptor: str, *modules: str) -> None:
    """Fork processes until the supervisor is gone. `modules` are imported in addition to those of the roles."""
    kernel.die_with_parent()
    gc.disable()  # what is collected leaves holes, which the processes would fill with pages of their own
    for module in modules:
        import_module(module)
    _Server(socket.socket(fileno=int(descriptor))).run()


class _Server(ForkServer):
    new_session = True  # Ctrl-C must reach only the supervisor, which stops processes in order

    @override
    def prepare(self, argument: str) -> None:
        ROLES[argument.split(maxsplit=1)[0]].preload()
        gc.collect()
        gc.freeze()  # the collector of a process must not touch, and so copy, what it shares

    @override
    def become(self, argument: str, descriptors: Sequence[int]) -> int:
        role, name = argument.split()
        gc.enable()
        kernel.set_title(f"flowhook {name}")
        os.environ[PARENT_FD] = str(descriptors[0])
        return supervised.main(role, forked=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
