"""Pictures of flows: Mermaid text and SVG, from a validated definition in plain JSON types; pure.

- `reading`: what pictures show of a definition: labels, triggers, inner tasks, branches.
- `mermaid`: a Mermaid flowchart.
- `layout`: the shapes of a drawing; the boxes, frames and columns of a flow, with their places.
- `path`: what an execution did at each task, and the ways that it took.
- `svg`: the drawing as SVG, and its style sheet.

Must not live here: I/O, but for reading the style sheets once; and HTML.
"""
