"""Health check of a container: exits with 0 if the process in it serves, else with 1 and the reason on stderr.

    healthcheck.py http PORT PATH    GET PATH answers 200: admin, `flowhook up` (`/readyz` of its admin), and a process
                                     with a private port (FLOWHOOK_HEALTH_PORT)
    healthcheck.py grpc PORT         grpc.health.v1 answers SERVING: router; needs no token, and asks without TLS
    healthcheck.py tcp PORT          the port accepts connections

It asks 127.0.0.1 and waits for at most 4 s.
"""

from __future__ import annotations

import http.client
import socket
import sys
from typing import Final

HOST: Final = "127.0.0.1"
TIMEOUT_SECONDS: Final = 4.0


def check(kind: str, port: int, path: str = "/readyz") -> None:
    """Return if the process serves.

    Raises:
        Exception: it does not; the text says why.
    """
    if kind == "http":
        connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_SECONDS)
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise ConnectionError(f"{path}: {response.status} {response.read(4096).decode(errors='replace')}")
    elif kind == "grpc":
        import grpc  # noqa: PLC0415 - takes a while, and only a router needs it
        from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

        with grpc.insecure_channel(f"{HOST}:{port}") as channel:
            request = health_pb2.HealthCheckRequest()
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS).status
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise ConnectionError(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
    elif kind == "tcp":
        socket.create_connection((HOST, port), timeout=TIMEOUT_SECONDS).close()
    else:
        raise ValueError(f"{kind}: expected http, grpc or tcp")


if __name__ == "__main__":
    try:
        check(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    except Exception as error:  # noqa: BLE001 - whatever it is, the process does not serve
        sys.exit(f"{type(error).__name__}: {error}")
