"""Diagnoses for the operator why a signature does not match; the sender receives nothing of it.

A refused request is verified again with the usual differences between what was signed and what arrived: the URL behind
a proxy, a body that was parsed and serialised again on the way, a secret of another URL. The variant that passes is the
reason.

So are the usual mistakes of operators: a line break at the end of a secret, a key in base64 that is taken as text, a
signature in another encoding.

The sender of a wrong signature chooses the input: the body, and the headers that name other URLs. So all variants share
one budget of hashed bytes, and the variants of a body are bounded as well: in nested arrays, for example, indentation
grows with the square of the size. This still takes too long for an event loop: call it in a thread, and bound the
number of concurrent calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Final

from flowhook import limits
from flowhook.signatures.json_body import reads_json
from flowhook.signatures.no_auth import NoAuthVerifier
from flowhook.signatures.request_variants import MAX_BODY_BYTES, body_variants, signature_variants, url_variants
from flowhook.signatures.types import RequestView, SignatureError, Verifier

MAX_HASHED_BYTES: Final = 16 * limits.MIB
"""Bytes of content that one diagnosis hashes for all variants: some 40 ms of work."""

TRIAL_BYTES: Final = 16 * limits.KIB
"""Hashed bytes that each comparison of a signature counts as, in addition to its content: about as much work."""

READING: Final = 32
"""Ratio of the time to parse JSON to the time to hash it."""

MAX_OTHERS: Final = 50
"""Other URLs whose secrets are tried."""

NamedVerifiers = tuple[str, Sequence[Verifier]]
"""Name of a URL for operators, and its verifiers; or what they have in place of the right ones, as an explanation."""

DIAGNOSED: Final = frozenset({"SIGNATURE_MISMATCH", "SIGNATURE_MALFORMED", "CREDENTIALS_WRONG"})
"""Reasons of refusals that a diagnosis may explain; the detail of the others is the cause."""


class _BudgetExhausted(Exception):  # noqa: N818 - an end, not an error
    """The budget is used up."""


class _VariantBudget:
    """Verifies variants of a request within a budget."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._left = MAX_HASHED_BYTES

    def passes(self, verifiers: Sequence[Verifier], request: RequestView) -> bool:
        """Whether one of the verifiers accepts a request.

        Raises:
            _BudgetExhausted: the budget does not suffice to find out.
        """
        for verifier in verifiers:
            if verifier.scheme == NoAuthVerifier.scheme:
                continue
            self._left -= _effort(verifier, request)
            if self._left < 0:
                raise _BudgetExhausted
            with suppress(SignatureError):
                verifier.verify(request, self._now)
                return True
        return False


def _effort(verifier: Verifier, request: RequestView) -> int:
    """Return the maximum work of verifying a request, in hashed bytes."""
    keys: int = getattr(verifier, "keys", 1)
    comparisons: int = getattr(verifier, "comparisons", 1)
    readings = READING if reads_json(verifier) else 0
    return (keys + readings) * len(request.body) + keys * comparisons * TRIAL_BYTES


def diagnose(
    verifiers: Sequence[Verifier],
    request: RequestView,
    now: float,
    others: Iterable[NamedVerifiers] = (),
    readings: Iterable[NamedVerifiers] = (),
) -> str:
    """Return an explanation of what would have made the request pass; empty if nothing is found.

    Args:
        verifiers: those that refused the request.
        request: as it was verified.
        now: Unix time in seconds.
        others: further URLs, the flow's own first, whose secrets the sender may have used.
        readings: the same verifiers with their secrets read otherwise (`secret_variants`).
    """
    budget = _VariantBudget(now)
    with suppress(_BudgetExhausted):
        for hint, those, variant in chain(_of_request(verifiers, request), _of_secrets(request, others, readings)):
            if budget.passes(those, variant):
                return hint
    return ""


_Trial = tuple[str, Sequence[Verifier], RequestView]
"""An explanation, and the verifiers and the request of which it is one if they pass."""


def _of_request(verifiers: Sequence[Verifier], request: RequestView) -> Iterator[_Trial]:
    """Yield variants of the request."""
    of_url = [verifier for verifier in verifiers if getattr(verifier, "signs_url", False)]
    for hint, variant in url_variants(request) if of_url else ():
        yield hint, of_url, variant
    for verifier in verifiers:
        for hint, variant in signature_variants(request, verifier):
            yield hint, [verifier], variant
    of_body = [verifier for verifier in verifiers if getattr(verifier, "signs_body", False)]
    if of_body and len(request.body) <= MAX_BODY_BYTES:
        for hint, body in body_variants(request):
            if body != request.body:
                yield hint, of_body, request._replace(body=body)


def _of_secrets(
    request: RequestView, others: Iterable[NamedVerifiers], readings: Iterable[NamedVerifiers]
) -> Iterator[_Trial]:
    """Yield the request with other secrets."""
    for hint, those in readings:
        yield hint, those, request
    for name, those in islice(others, MAX_OTHERS):
        hint = f"it passes with the credentials of {name}: the sender has the wrong secret, or calls the wrong URL"
        yield hint, those, request
