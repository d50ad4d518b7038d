"""Token bucket for rate limits. Without I/O: the time is an argument."""

from __future__ import annotations


class TokenBucket:
    """A rate limit: `per_second` on average, `burst` at once. Times are seconds of one monotonic clock."""

    __slots__ = ("_burst", "_filled_at", "_per_second", "_tokens")

    def __init__(self, *, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float) -> float:
        """Take one token and return 0, or return the seconds until one is available."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_second

    @property
    def remaining(self) -> int:
        """Tokens that were left after the last one was taken."""
        return int(self._tokens)

    def give_back(self) -> None:
        self._tokens = min(self._burst, self._tokens + 1)


class TokenBuckets:
    """Token buckets by key, at most `most`: the one that was used longest ago is dropped, and later starts full."""

    def __init__(self, *, per_second: float, burst: float, most: int) -> None:
        self._rate = {"per_second": per_second, "burst": burst}
        self._most = most
        self._buckets: dict[str, TokenBucket] = {}  # those that were used last come last

    def take(self, key: str, now: float) -> float:
        bucket = self._buckets.pop(key, None) or TokenBucket(**self._rate, now=now)
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)

    def give_back(self, key: str) -> None:
        if (bucket := self._buckets.get(key)) is not None:
            bucket.give_back()

    def remaining(self, key: str) -> int:
        """Return the tokens that were left of a key after the last one was taken."""
        return self._buckets[key].remaining
