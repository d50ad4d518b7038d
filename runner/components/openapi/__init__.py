"""`call: openapi`, the DSL's own function: a request described by an OpenAPI document and sent like a `call: http`.

- `call`: fetches the document, and passes the request to `http`.
- `operations`: parses documents to plain JSON, resolves references within them, extracts one operation from a document
  of any supported version of OpenAPI, and caches operations.
- `requests`: builds a request from an operation and the parameters of a call; `parameter_styles` serializes the
  parameters.

`requests` and `parameter_styles` are pure. A document is untrusted input: the type of every value in it is
checked, and references may only point into the document itself.

Source: dsl-reference.md, "OpenAPI Call"; OpenAPI Specification 3.0.4, 3.1.1 and 2.0 (https://spec.openapis.org/oas/).
"""
