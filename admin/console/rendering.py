"""Renders the console's templates: Jinja2, which escapes every value and refuses names that are not defined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

import flowhook
from admin.console import static_files
from admin.console.body_view import indent_json, indented
from flowhook.security import callback_tokens
from operations.encoding import stored_json, to_json

FOLDER: Final = Path(__file__).parent
_TIMES: Final = ((86_400, "d"), (3600, "h"), (60, "min"))
_SIZES: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
MAX_OUTPUT: Final = 16 * 1024  # characters of an output that a page shows; the API has all of them
# pages of things, by the beginning of their IDs
PAGES: Final = {"evt": "executions", "job": "jobs", "rej": "rejections"}
_ID: Final = re.compile(r"\b(?P<kind>evt|job|rej)_[0-9a-z]{26}\b")
_BAR: Final = 2  # width of a minute, in pixels
HEIGHT: Final = 24
_SVG: Final = Markup(
    '<svg class="sparkline" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    "<title>{title}</title>{bars}</svg>"
)
_BARS: Final = Markup('<path class="{name}" d="{path}"/>')


def render(template: str, **values: Any) -> str:
    return _ENVIRONMENT.get_template(template).render(now=datetime.now(UTC), **values)


def load_templates() -> None:
    """Read and compile all templates, which are not read again. Blocks for some 100 ms."""
    for name in _ENVIRONMENT.list_templates(extensions=["html"]):
        _ENVIRONMENT.get_template(name)


def _unit(value: float, units: Sequence[tuple[int, str]], smallest: str) -> tuple[int, str]:
    return next(((unit, name) for unit, name in units if value >= unit), (1, smallest))


def ago(time: datetime, now: datetime) -> str:
    seconds = int((now - time).total_seconds())
    if seconds == 0:
        return "now"
    unit, name = _unit(abs(seconds), _TIMES, "s")
    return f"{seconds // unit} {name} ago" if seconds > 0 else f"in {-seconds // unit} {name}"


def exact(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.") + f"{time.microsecond // 1000:03d} UTC"


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"  # two clocks may differ
    unit, name = _unit(seconds, _TIMES, "s")
    return f"{seconds / unit:.1f} {name}"


def size(count: int) -> str:
    unit, name = _unit(count, _SIZES, "bytes")
    return f"{count} bytes" if unit == 1 else f"{count / unit:.1f} {name}"


def age(seconds: float) -> str:
    """Return a duration in one unit, rounded down."""
    unit, name = _unit(seconds, _TIMES, "s")
    return f"{max(int(seconds), 0) // unit} {name}"


def share(ratio: float) -> str:
    """Return a part of a whole, in [0, 1], in per cent; what is not nothing is never shown as nothing."""
    return "< 0.1 %" if 0 < ratio < 0.001 else f"{ratio * 100:.1f} %"  # noqa: PLR2004 - a tenth of a per cent


def plain(number: float | str) -> str:
    return number if isinstance(number, str) else f"{number:g}"


def json_text(value: object, limit: int = MAX_OUTPUT) -> str:
    """Return part of a result as indented JSON, cut at `limit` characters.

    Tokens of one-time URLs are masked before it is cut: the rest of one would be easy to guess.
    """
    text = callback_tokens.mask(to_json(value).decode("utf-8", "replace"))
    if len(text) > limit:
        return f"{text[:limit]}\n… {len(text) - limit} more characters"
    return indent_json(text) or text


def linked(text: str) -> Markup:
    parts: list[Markup] = []
    end = 0
    for found in _ID.finditer(text):
        page = PAGES[found["kind"]]
        link = Markup('<a href="/{}/{}"><code>{}</code></a>').format(page, found[0], found[0])
        parts += [escape(text[end : found.start()]), link]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


@jinja2.pass_context
def invalid(context: jinja2.runtime.Context, name: str) -> Markup:
    if name not in context["errors"]:
        return Markup()
    return Markup(' aria-invalid="true" aria-describedby="error-{}"').format(name)


@jinja2.pass_context
def field_error(context: jinja2.runtime.Context, name: str) -> Markup:
    if name not in context["errors"]:
        return Markup()
    return Markup(' <span class="field-error" id="error-{}">{}</span>').format(name, context["errors"][name])


def sparkline(accepted: Sequence[int], faulted: Sequence[int]) -> Markup:
    """Return a bar for each minute: its height is what was accepted, and what faulted lies over it.

    An empty minute has no bar, and none is lower than a pixel. Colours and the width of the lines are those of the
    style sheet. The title says in words what the bars show.
    """
    most = max((*accepted, *faulted), default=0)
    bars = Markup().join(
        _BARS.format(name=name, path=path)
        for name, counts in (("accepted", accepted), ("faulted", faulted))
        if (path := _path(counts, most))
    )
    return _SVG.format(width=_BAR * len(accepted), height=HEIGHT, title=_title(accepted, faulted), bars=bars)


def _path(counts: Sequence[int], most: int) -> str:
    """Return upright lines, one for each minute that is not empty."""
    return "".join(
        f"M{_BAR * minute + _BAR // 2} {HEIGHT}v-{max(round(count * HEIGHT / most), 1)}"
        for minute, count in enumerate(counts)
        if count
    )


def _title(accepted: Sequence[int], faulted: Sequence[int]) -> str:
    if not any(accepted) and not any(faulted):
        return "nothing in the last hour"
    return (
        f"in the last hour: {sum(accepted):,} accepted, at most {max(accepted):,} in a minute; {sum(faulted):,} faulted"
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        **{
            each.__name__: each
            for each in (ago, exact, duration, size, age, share, json_text, plain, linked, stored_json)
        },
        "grouped": "{:,}".format,
        "indented": lambda text: indented(text) or text,
        "iso": datetime.isoformat,
    }
    environment.globals |= {
        "static": static_files.url,
        "build": flowhook.__version__,
        "sparkline": sparkline,
        "invalid": invalid,
        "field_error": field_error,
        "errors": {},
    }
    return environment


_ENVIRONMENT: Final = _environment()
