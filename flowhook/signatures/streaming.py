"""Verification of bodies that are never in memory as a whole: hashed as they come, judged at their end.

What can be judged before is: a request without a signature, or with a stale one, is refused before its body comes.
Whatever is done with the body meanwhile must be undone when `finish` refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

from flowhook.signatures.types import Match, RequestView, SignatureError, Verifier


class Hashing(Protocol):
    """Content on its way through one key."""

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        ...

    def proves(self, signatures: Sequence[bytes]) -> bool:
        """Whether one of the signatures is that of all that came. Ask once."""
        ...


class Streaming(Protocol):
    """A request that is being verified."""

    def update(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        ...

    def finish(self) -> Match:
        """Judge it; the body is complete.

        Raises:
            SignatureError: it does not match.
        """
        ...


class StreamingVerifier(Verifier, Protocol):
    """A verifier whose kind allows it."""

    @property
    def streams(self) -> bool:
        """Whether its keys allow it, too."""
        ...

    def begin(self, request: RequestView, now: float) -> Streaming:
        """Begin to verify a request with a body that is yet to come.

        Args:
            request: without the body.
            now: Unix time in seconds; a body may take longer than the tolerance of a timestamp.

        Raises:
            SignatureError: whatever the body is, it can't pass.
        """
        ...


def can_stream(verifier: Verifier) -> TypeGuard[StreamingVerifier]:
    """Whether a verifier can do without the body as a whole."""
    return bool(getattr(verifier, "streams", False))


class StreamedProof:
    """See `Streaming`; for one kind of `auth`, whose keys are all tried."""

    def __init__(
        self,
        scheme: str,
        after: Sequence[bytes],
        mismatch: SignatureError,
        tried: Sequence[tuple[str, Hashing, Sequence[bytes]]],
    ) -> None:
        """Verify.

        Args:
            scheme: name of the kind.
            after: what is signed behind the body.
            mismatch: to be raised when nothing matches.
            tried: name of a secret, its hash up to the body, and the signatures that may be its.
        """
        self._scheme = scheme
        self._after = after
        self._mismatch = mismatch
        self._tried = tried

    def update(self, data: bytes) -> None:
        """See `Streaming`."""
        for _, hashing, _ in self._tried:
            hashing.update(data)

    def finish(self) -> Match:
        """See `Streaming`."""
        for chunk in self._after:
            self.update(chunk)
        for name, hashing, signatures in self._tried:
            if hashing.proves(signatures):
                return Match(self._scheme, name)
        raise self._mismatch


class BodyProofs:
    """A request that several kinds of `auth` verify at once, of which one has to pass.

    Attributes:
        errors: why kinds refused it so far.
    """

    def __init__(self, verifiers: Sequence[StreamingVerifier], request: RequestView, now: float) -> None:
        """Begin with all of them; see `StreamingVerifier.begin`."""
        self.errors: list[SignatureError] = []
        self._begun: list[tuple[Verifier, Streaming]] = []
        for verifier in verifiers:
            try:
                self._begun.append((verifier, verifier.begin(request, now)))
            except SignatureError as error:
                self.errors.append(error)

    @property
    def may_pass(self) -> bool:
        """Whether the body can decide anything."""
        return bool(self._begun)

    def update(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        for _, streaming in self._begun:
            streaming.update(data)

    def finish(self) -> tuple[Verifier, Match] | None:
        """Return the first that passes with what it found; None: none does, see `errors`."""
        for verifier, streaming in self._begun:
            try:
                return verifier, streaming.finish()
            except SignatureError as error:
                self.errors.append(error)
        return None
