"""Pictures of flows: Mermaid text and SVG, from a validated definition in plain JSON types; pure.

- `reading`: what pictures show of a definition: labels, triggers, inner tasks.
- `mermaid`: a Mermaid flowchart.
- `text_fit`: the estimated width of text, and its truncation.
- `shapes`: what a drawing consists of, with coordinates.
- `nodes`: boxes, frames and columns, and their places.
- `layout`: the nodes of a flow.
- `svg`, `style`: the drawing as SVG, and its style sheet.

Must not live here: I/O, HTML, and anything that knows executions: a status is a class that the caller gives.
"""
