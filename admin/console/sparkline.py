"""Draws the executions of a flow in the last hour as a small SVG; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

BAR: Final = 2  # width of a minute, in pixels
HEIGHT: Final = 24
_SVG: Final = Markup(
    '<svg class="sparkline" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    "<title>{title}</title>{bars}</svg>"
)
_BARS: Final = Markup('<path class="{name}" d="{path}"/>')


def sparkline(accepted: Sequence[int], faulted: Sequence[int]) -> Markup:
    """Return a bar for each minute: its height is what was accepted, and what faulted lies over it.

    An empty minute has no bar, and none is lower than a pixel. Colours and the width of the lines are those of the
    style sheet (`flows.css`). The title says in words what the bars show.
    """
    most = max((*accepted, *faulted), default=0)
    bars = Markup().join(
        _BARS.format(name=name, path=path)
        for name, counts in (("accepted", accepted), ("faulted", faulted))
        if (path := _path(counts, most))
    )
    return _SVG.format(width=BAR * len(accepted), height=HEIGHT, title=_title(accepted, faulted), bars=bars)


def _path(counts: Sequence[int], most: int) -> str:
    """Return upright lines, one for each minute that is not empty."""
    return "".join(
        f"M{BAR * minute + BAR // 2} {HEIGHT}v-{max(round(count * HEIGHT / most), 1)}"
        for minute, count in enumerate(counts)
        if count
    )


def _title(accepted: Sequence[int], faulted: Sequence[int]) -> str:
    if not any(accepted) and not any(faulted):
        return "nothing in the last hour"
    return (
        f"in the last hour: {sum(accepted):,} accepted, at most {max(accepted):,} in a minute; {sum(faulted):,} faulted"
    )
