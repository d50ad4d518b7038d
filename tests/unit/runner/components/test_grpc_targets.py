"""Where a gRPC call goes, and what its status means."""

from __future__ import annotations

import grpc
from support.cases import cases

from runner.components.connection_pool import ServerAddress
from runner.components.grpc_call.call import MEANINGS
from runner.components.grpc_call.channels import target_of


@cases(
    ("host", "port", "expected"),
    [
        ("pets.example", None, ServerAddress("pets.example", 443, tls=True)),
        ("pets.example", 443, ServerAddress("pets.example", 443, tls=True)),
        ("pets.example", 50051, ServerAddress("pets.example", 50051, tls=False)),
        ("https://pets.example", None, ServerAddress("pets.example", 443, tls=True)),
        ("https://pets.example", 50051, ServerAddress("pets.example", 50051, tls=True)),
        ("http://pets.example", None, ServerAddress("pets.example", 80, tls=False)),
        ("http://pets.example", 443, ServerAddress("pets.example", 443, tls=False)),
    ],
)
def test_the_port_and_the_host_say_whether_there_is_tls(host, port, expected):
    assert target_of(host, port) == expected


def test_every_status_but_ok_has_a_meaning():
    assert set(MEANINGS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
