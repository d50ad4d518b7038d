"""Verifies streamed bodies: they are hashed as they arrive, and never in memory as a whole.

A request without a signature, or with a stale one, is refused before its body arrives. Whatever the caller does with
the body meanwhile must be undone if `finish` refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

from flowhook.signatures.types import Match, RequestView, SignatureError, Verifier


class StreamingDigest(Protocol):
    """Streaming verification of content by one key."""

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        ...

    def matches(self, signatures: Sequence[bytes]) -> bool:
        """Whether one of the signatures matches all content so far. Call it only once."""
        ...


class StreamingVerification(Protocol):
    """Streaming verification of a request."""

    def update(self, data: bytes) -> None:
        """Add the next bytes of the body."""
        ...

    def finish(self) -> Match:
        """Return the match; the body is complete.

        Raises:
            SignatureError: it does not match.
        """
        ...


class StreamingVerifier(Verifier, Protocol):
    """A verifier of a kind that supports streamed bodies."""

    @property
    def streams(self) -> bool:
        """Whether its keys support them, too."""
        ...

    def begin(self, request: RequestView, now: float) -> StreamingVerification:
        """Begin to verify a request before its body arrives.

        Args:
            request: without the body.
            now: Unix time in seconds; a body may take longer than the tolerance of a timestamp.

        Raises:
            SignatureError: the request can't pass, whatever its body is.
        """
        ...


def can_stream(verifier: Verifier) -> TypeGuard[StreamingVerifier]:
    """Whether a verifier can verify a streamed body."""
    return bool(getattr(verifier, "streams", False))


class StreamingSchemeVerification:
    """Implements `StreamingVerification` for one kind of `auth`, whose keys are all tried."""

    def __init__(
        self,
        scheme: str,
        after: Sequence[bytes],
        mismatch: SignatureError,
        tried: Sequence[tuple[str, StreamingDigest, Sequence[bytes]]],
    ) -> None:
        """Prepare the verification; pass the signed content before the body to `update` first.

        Args:
            scheme: name of the kind.
            after: the signed content after the body.
            mismatch: raised if nothing matches.
            tried: for each secret its name, its hash, and the signatures that may match.
        """
        self._scheme = scheme
        self._after = after
        self._mismatch = mismatch
        self._tried = tried

    def update(self, data: bytes) -> None:
        """See `StreamingVerification`."""
        for _, hashing, _ in self._tried:
            hashing.update(data)

    def finish(self) -> Match:
        """See `StreamingVerification`."""
        for chunk in self._after:
            self.update(chunk)
        for name, hashing, signatures in self._tried:
            if hashing.matches(signatures):
                return Match(self._scheme, name)
        raise self._mismatch


class StreamingAuthentication:
    """Streaming verification of a request by several kinds of `auth`, of which one has to pass.

    Attributes:
        errors: refusals of kinds so far.
    """

    def __init__(self, verifiers: Sequence[StreamingVerifier], request: RequestView, now: float) -> None:
        """Begin with all verifiers; see `StreamingVerifier.begin`."""
        self.errors: list[SignatureError] = []
        self._begun: list[tuple[Verifier, StreamingVerification]] = []
        for verifier in verifiers:
            try:
                self._begun.append((verifier, verifier.begin(request, now)))
            except SignatureError as error:
                self.errors.append(error)

    @property
    def may_pass(self) -> bool:
        """Whether any verifier may still pass, depending on the body."""
        return bool(self._begun)

    def update(self, data: bytes) -> None:
        """Add the next bytes of the body."""
        for _, streaming in self._begun:
            streaming.update(data)

    def finish(self) -> tuple[Verifier, Match] | None:
        """Return the first verifier that passes, and its match; None if none passes, see `errors`."""
        for verifier, streaming in self._begun:
            try:
                return verifier, streaming.finish()
            except SignatureError as error:
                self.errors.append(error)
        return None
