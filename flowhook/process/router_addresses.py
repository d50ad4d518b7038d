"""Parses the setting that names the routers: one `host:port`, or several separated by commas."""

from __future__ import annotations

from typing import Final

from flowhook.errors import InvalidError

MAX_ROUTERS: Final = 16


def split_addresses(target: str) -> tuple[str, ...]:
    """Return the addresses in `target`, in order and without repetitions: 1 to `MAX_ROUTERS`.

    Raises:
        InvalidError: one of them is not HOST:PORT, or there are too many (`ROUTER_INVALID`).
    """
    addresses = tuple(dict.fromkeys(each.strip() for each in target.split(",")))
    for address in addresses:
        # gRPC accepts URLs, but never connects to them
        if ":" not in address or address.startswith(("http://", "https://")):
            expected = "expected HOST:PORT, such as 127.0.0.1:50051"
            if len(addresses) > 1:
                expected += f", or several of them separated by commas; {address!r} is none"
            raise InvalidError(expected, reason="ROUTER_INVALID")
    if len(addresses) > MAX_ROUTERS:
        raise InvalidError(f"{len(addresses)} routers: at most {MAX_ROUTERS} are allowed", reason="ROUTER_INVALID")
    return addresses
