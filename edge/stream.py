"""A socket's stream that minds its own side only.

Tornado's stream reads ahead while nobody asks for it, and closes both directions when the peer has shut one. So a
sender that ends its side right after the request, as `nc` and some HTTP/1.0 clients do, would never see the answer.

Source: RFC 9112, section 9.6: a server should not take a half-closed connection for a closed one.
"""

from __future__ import annotations

import socket
from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from edge.tls import names_of


class Stream(IOStream):
    """Leaves in the kernel what arrives while nobody reads, the end of the peer's side among it.

    Attributes:
        scheme: of the URLs that are called over it.
        client_names: of the sender's certificate.
    """

    scheme = "http"
    client_names: tuple[str, ...] = ()

    def _handle_events(self, fd: int | Any, events: int) -> None:
        if events & IOLoop.READ and not self.reading() and not self.closed():
            self._state = IOLoop.ERROR | (IOLoop.WRITE if self.writing() else 0)  # the next read listens again
            self.io_loop.update_handler(fd, self._state)
            events &= ~IOLoop.READ
            if not events:
                return
        super()._handle_events(fd, events)

    def peer_ended(self) -> bool:
        """Whether the peer has ended its side, as far as can be seen without taking what it sent.

        Raises:
            StreamClosedError: the connection is gone.
        """
        if self.socket is None:
            raise StreamClosedError
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StreamClosedError(error) from None

    def shut_write_side(self) -> None:
        """Tell the peer that nothing more comes; what it sends can still be read.

        Raises:
            OSError: the connection is gone.
        """
        if self.socket is not None:
            self.socket.shutdown(socket.SHUT_WR)


class TlsStream(SSLIOStream, Stream):
    """The same over TLS; `wait_for_handshake` comes first. What TLS has read ahead can't be looked at."""

    scheme = "https"

    def learn_names(self) -> None:
        """Take over the names of the sender's certificate, once there was a handshake."""
        if self.socket is not None:
            self.client_names = names_of(self.socket.getpeercert())

    def peer_ended(self) -> bool:
        """See `Stream`; false as long as the connection is there."""
        if self.socket is None:
            raise StreamClosedError
        return False

    def shut_write_side(self) -> None:
        """Do nothing: TLS has no half-closed connections that senders could rely on."""
