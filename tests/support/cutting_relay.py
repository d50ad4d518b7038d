"""A relay before a server, on threads, that loses what one side sends, and cuts connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager

BUFFER = 64 * 1024


class CuttingRelay:
    """Relays. What is lost leaves a hole in the stream, so end a loss by `cut`.

    Attributes:
        address: where clients connect.
        lose_answers: whether what the server sends is dropped.
        lose_requests: whether what clients send is dropped.
        lost: what was dropped.
    """

    def __init__(self, target):
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = set()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.lose_answers = False
        self.lose_requests = False
        self.lost = b""

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets |= {client, server}
                self._start(self._pass, client, server, "lose_requests")
                self._start(self._pass, server, client, "lose_answers")

    def cut(self):
        """Lose nothing from now on, and end all connections."""
        self.lose_answers = self.lose_requests = False
        while self._sockets:
            with contextlib.suppress(OSError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _pass(self, source, target, loss):
        with source, contextlib.suppress(OSError):
            while data := source.recv(BUFFER):
                if getattr(self, loss):
                    self.lost += data
                else:
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def _start(self, function, *arguments):
        threading.Thread(target=function, args=arguments, daemon=True).start()


@contextmanager
def cutting_relay(target):
    """Relay to a server at `target`."""
    relay = CuttingRelay(target)
    relay._start(relay.serve)
    try:
        yield relay
    finally:
        relay.close()
