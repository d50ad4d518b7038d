"""Forks children from a process with all modules imported: `python -I -m runner.worker.fork_server SOCKET_FD`.

A forked child starts within milliseconds of CPU time, where a new interpreter takes a second, and all children share
the memory of the imported modules. This process has one thread, opens no connection and evaluates nothing, so forking
it is safe at any time (gRPC is imported, but not initialised). Linux only.

Protocol over the socket, one message per packet (`guard.process_starter` is the other end)::

    fork N, with the control socket and the record of a child  ─▶
                                                 ◀─ {"started": pid, "request": N}, or {"refused": errno, "request": N}
                                                 ◀─ {"ended": pid, "code": exit code, or -signal}
    reap pid                                     ─▶ from here on the kernel may reuse the process ID

The server exits, and its children with it, when the other end of the socket is closed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import Final, NoReturn

import orjson
import psutil

from flowhook.process.kernel import die_with_parent
from runner.components.registry import components
from runner.processes import orphans
from runner.worker import process

MAX_PACKET: Final = 256
# time after the end of a child that the launchers of its flows' processes have to clean up by themselves
SWEEP_SECONDS: Final = 5.0
# delay before the next sweep if one left processes; doubled after each, up to `SWEEP_SECONDS`
RESWEEP_SECONDS: Final = 0.1
SWEEP_ROUNDS: Final = 4  # rounds of one sweep, some milliseconds apart

THREADS: Final = (
    "flowhook: a component starts a thread when it is imported; working processes are forked, and will not have it. "
    "Let it start the thread when it is first called"
)


def main() -> None:
    """Fork children until the parent is gone."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401, PLC0415 - the children use it; not available on every platform
    components()  # includes those of installed packages
    process.prepare()
    if psutil.Process().num_threads() > 1:
        print(THREADS, file=sys.stderr, flush=True)  # noqa: T201 - logs are not set up here
    orphans.become_subreaper()
    _Server(socket.socket(fileno=int(sys.argv[1]))).run()


class _Server:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._children: dict[int, int] = {}  # process IDs by descriptor (pidfd)
        self._ended: set[int] = set()  # process IDs of children that ended and are not reaped yet
        self._sweep_at = 0.0  # monotonic time of the next sweep of processes that children left behind; 0: none is due
        self._sweep_delay = RESWEEP_SECONDS
        self._poll = select.poll()
        self._poll.register(link, select.POLLIN)

    def run(self) -> None:
        while True:
            timeout = max(0.0, self._sweep_at - time.monotonic()) * 1000 if self._sweep_at else None
            for descriptor, _ in self._poll.poll(timeout):
                if descriptor == self._link.fileno():
                    if not self._take_request():
                        return
                elif descriptor in self._children:
                    self._report_end(descriptor)
            if self._sweep_at and time.monotonic() >= self._sweep_at:
                self._kill_orphans()

    def _kill_orphans(self) -> None:
        known = frozenset(self._children.values()) | self._ended
        # this process has one thread: sweep a few rounds at a time, with requests in between
        sweep = orphans.kill_orphans(lambda child: child not in known, rounds=SWEEP_ROUNDS)
        if sweep.is_over:
            self._sweep_at, self._sweep_delay = 0.0, RESWEEP_SECONDS
        else:
            self._sweep_at = time.monotonic() + self._sweep_delay
            self._sweep_delay = min(2 * self._sweep_delay, SWEEP_SECONDS)

    def _take_request(self) -> bool:
        packet, descriptors, _, _ = socket.recv_fds(self._link, MAX_PACKET, 2)
        if not packet:
            return False
        kind, _, number = packet.partition(b" ")
        if kind == b"fork":
            self._fork(int(number), *descriptors)
        else:
            os.waitpid(int(number), 0)
            self._ended.discard(int(number))
        return True

    def _fork(self, request: int, control_fd: int, record_fd: int) -> None:
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as problem:
            self._send({"refused": problem.errno, "request": request})
        else:
            if not pid:
                self._become_child(server, control_fd, record_fd)
            descriptor = os.pidfd_open(pid)
            self._children[descriptor] = pid
            self._poll.register(descriptor, select.POLLIN)
            self._send({"started": pid, "request": request})
        finally:
            os.close(control_fd)
            os.close(record_fd)

    def _become_child(self, server: int, control_fd: int, record_fd: int) -> NoReturn:
        code = 1
        try:
            die_with_parent(server)
            self._link.close()
            for descriptor in self._children:
                os.close(descriptor)
            process.run(control_fd, record_fd)
            code = 0
        except BaseException:  # noqa: BLE001 - no code of the server may run in the fork
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _report_end(self, descriptor: int) -> None:
        """Report a child that has ended; it stays a zombie until it is reaped, so that its PID is not reused."""
        pid = self._children.pop(descriptor)
        self._ended.add(pid)
        self._sweep_at = time.monotonic() + SWEEP_SECONDS
        self._poll.unregister(descriptor)
        os.close(descriptor)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if ended is not None:
            status = ended.si_status
            self._send({"ended": pid, "code": status if ended.si_code == os.CLD_EXITED else -status})

    def _send(self, message: dict[str, int | None]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next read notices it, too
            self._link.send(orjson.dumps(message))


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    main()
