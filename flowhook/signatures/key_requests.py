"""Requests for public keys that are fetched over the network before verification, as data.

Verification neither blocks nor waits. So a verifier with remote keys says beforehand which key a request needs
(`KeyedVerifier.key_request`), and the caller fetches it and puts it into `RequestView.keys`. The sender, who is not
authenticated yet, may determine which key is requested: only URLs that the verifier trusts are ever requested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from flowhook.signatures.types import RequestView, SignatureError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class KeyRequest(Generic[T_co]):
    """A key, and the document that contains it.

    Attributes:
        url: of the document; it is fetched from there and no other host.
        read: parses the document into keys by ID, which is empty for the key of a document with one key alone; raises
            ValueError if it can't.
        publisher: name under which documents share a rate limit of fetches, however many of them senders name.
        key_id: ID of the key; empty if the document contains one key alone.
        body: JSON to POST, which may hold a credential; empty: GET.
    """

    url: str
    read: Callable[[bytes], Mapping[str, T_co]]
    publisher: str
    key_id: str = ""
    body: bytes = field(default=b"", repr=False)


def fetched_key(request: RequestView, wanted_key: KeyRequest[T_co]) -> T_co:
    """Return a key that was fetched beforehand.

    Raises:
        SignatureError: its document couldn't be fetched (`KEY_UNAVAILABLE`), or doesn't contain it (`KEY_UNKNOWN`).
    """
    try:
        key = request.keys[wanted_key]
    except KeyError:
        raise SignatureError("the document with the key can't be fetched", reason="KEY_UNAVAILABLE") from None
    if key is None:
        raise SignatureError("the key is not in the document that should have it", reason="KEY_UNKNOWN")
    return cast("T_co", key)
