"""Pictures of flows: Mermaid text and SVG, from a validated definition in plain JSON types; pure.

- `reading`: what pictures show of a definition: labels, triggers, inner tasks.
- `mermaid`: a Mermaid flowchart.
- `nodes`: the shapes of a drawing, and boxes, frames and columns with their places.
- `layout`: the nodes of a flow; the estimated width of text.
- `svg`, `style`: the drawing as SVG, and its style sheet.

Must not live here: I/O, HTML, and anything that knows executions: a status is a class that the caller gives.
"""
