"""The baseline: a bare Tornado RequestHandler that reads the body and answers 202."""

from __future__ import annotations

import asyncio
import sys

import tornado.httpserver
import tornado.netutil
import tornado.web


class Accept(tornado.web.RequestHandler):
    """Answers every POST with 202."""

    def post(self) -> None:
        """Answer."""
        self.set_status(202)
        self.write(b'{"accepted":true}')


async def main() -> None:
    """Serve on a free port, which is printed, until standard input ends."""
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    server = tornado.httpserver.HTTPServer(tornado.web.Application([(r"/hook/[^/]+", Accept)]))
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
