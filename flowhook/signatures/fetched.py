"""Public keys that stand elsewhere: what a verifier wants fetched, as data.

Verification neither blocks nor waits. So a verifier whose keys stand elsewhere says beforehand which one a request
needs (`KeyedVerifier.wanted`), and whoever can fetch puts it into `RequestView.keys`. What is wanted may be up to the
sender, who has proved nothing yet: only URLs that the verifier vouches for are ever named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from flowhook.signatures.types import RequestView, SignatureError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class KeyRequest(Generic[T_co]):
    """A key, and the document that has it.

    Attributes:
        url: of the document; it is fetched from there and no other host.
        read: makes keys by ID of the document, that of the only one being empty; raises ValueError where it can't.
        publisher: whose documents are fetched at one pace, however many of them senders name.
        key_id: ID of the key; empty where the document is about one key alone.
        body: JSON to POST, which may hold a credential; empty: GET.
    """

    url: str
    read: Callable[[bytes], Mapping[str, T_co]]
    publisher: str
    key_id: str = ""
    body: bytes = field(default=b"", repr=False)


def fetched_key(request: RequestView, wanted: KeyRequest[T_co]) -> T_co:
    """Return a key that was fetched beforehand.

    Raises:
        SignatureError: nobody could fetch it (`KEY_UNAVAILABLE`), or it isn't there (`KEY_UNKNOWN`).
    """
    try:
        key = request.keys[wanted]
    except KeyError:
        raise SignatureError("the document with its key can't be fetched", reason="KEY_UNAVAILABLE") from None
    if key is None:
        raise SignatureError("there is no such key where it should be", reason="KEY_UNKNOWN")
    return cast("T_co", key)
