"""`call: openapi`, the DSL's own function: a request described by an OpenAPI document and sent like a `call: http`.

- `call`: fetches the document, and passes the request to `http`.
- `operation_cache`: parses documents to plain JSON, and caches operations.
- `operations`: extracts one operation from a document of any supported version of OpenAPI.
- `references`: resolves references within a document.
- `requests`: builds a request from an operation and the parameters of a call; `parameter_styles` serializes the
  parameters.

All modules but `call` and `operation_cache` are pure. A document is untrusted input: the type of every value in it is
checked, and references may only point into the document itself.

Source: dsl-reference.md, "OpenAPI Call"; OpenAPI Specification 3.0.4, 3.1.1 and 2.0 (https://spec.openapis.org/oas/).
"""
