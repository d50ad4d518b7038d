"""How a supervisor finds out whether an edge serves, whatever its connections begin with."""

from __future__ import annotations

import socket

import pytest
from support.certificates import Authority

from cli.supervisor.http import status_of
from edge import answers
from edge.metrics import Counts
from edge.server import Server
from edge.tls import Certificates
from flowhook.config import EdgeSettings


async def handle(_request):
    return answers.FLOW_NOT_FOUND


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("proxied", [False, True])
async def test_an_edge_is_asked_as_it_wants_to_be(tmp_path, tls, proxied):
    certificates = Certificates(*Authority(tmp_path).issue("edge"), None) if tls else None
    settings = EdgeSettings(proxy_protocol=proxied)
    server = Server(settings, handle, Counts(), max_connections=10, certificates=certificates)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        server.add_sockets([listening])
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert await status_of("GET", address, "/hook/-", tls=tls, proxied=proxied) == 404
        assert await status_of("GET", address, "/hook/-", tls=tls, proxied=not proxied) != 404
        server.stop()
        await server.ended()
