"""The style sheet of the SVG pictures. Its colours are custom properties, which a page or `STANDALONE` defines."""

from __future__ import annotations

from typing import Final

# rules for the classes of a picture
STYLE: Final = """\
.diagram { display: block; max-width: none; font: 13px system-ui, sans-serif; }
.diagram text { fill: var(--ink); }
.diagram :is(.summary, .condition) { font: 11px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.diagram .case { font-size: 12px; }
.diagram :is(.note, .right) { font-size: 11px; fill: var(--quiet); }
.diagram .name { font-weight: 600; }
.diagram .right { text-anchor: end; }
.diagram .middle { text-anchor: middle; }
.diagram .case-right { fill: var(--link); }
.diagram .condition { fill: var(--busy); }
.diagram .box { fill: var(--paper); stroke: var(--quiet); }
.diagram .frame > .box { fill: var(--fill); fill-opacity: .6; stroke: var(--line); }
.diagram .conditional > .box, .diagram .kind-more > .box { stroke-dasharray: 4 3; }
.diagram .mark { fill: var(--quiet); }
.diagram :is(.kind-call, .kind-run) > .mark { fill: var(--link); }
.diagram :is(.kind-listen, .kind-wait) > .mark { fill: var(--busy); }
.diagram :is(.kind-emit) > .mark { fill: var(--good); }
.diagram .kind-raise > .mark { fill: var(--bad); }
.diagram .kind-catch > .box { stroke: var(--bad); stroke-dasharray: 4 3; }
.diagram :is(.kind-start, .kind-end, .kind-exit) > .box { fill: var(--fill); }
.diagram .edge polyline { fill: none; stroke: var(--quiet); }
.diagram .edge path { fill: var(--quiet); }
.diagram .jump polyline { stroke: var(--link); }
.diagram .jump path { fill: var(--link); }
.diagram .loop polyline { stroke-dasharray: 4 3; }
.diagram .catch polyline { stroke: var(--bad); stroke-dasharray: 4 3; }
.diagram .catch path { fill: var(--bad); }
"""

# colours of a picture that is a file of its own
STANDALONE: Final = """\
svg { color-scheme: light dark; background: var(--paper); --paper: #fdfdfb; --ink: #1c1c1a; --quiet: #5d5d58;
  --line: #c4c4bb; --fill: #f2f2ed; --link: #1a4f8a; --good: #1f6b3a; --bad: #a3261d; --busy: #7a5300; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #161615; --ink: #e6e6e1; --quiet: #a3a39c; --line: #4a4a46; --fill: #21211f; --link: #8fbcf0;
    --good: #7fcf9b; --bad: #f0968f; --busy: #e0b660; }
}
"""
