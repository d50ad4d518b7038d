"""`call: openapi`, the DSL's own function: a request described by an OpenAPI document and sent like a `call: http`.

- `call`: fetches the document, and passes the request to `http`.
- `operations`: extracts one operation from a document of any supported version of OpenAPI, which `api_documents` has
  fetched and parsed.
- `requests`: builds a request from an operation and the parameters of a call; `parameter_styles` serializes the
  parameters.

`requests` and `parameter_styles` are pure.

Source: dsl-reference.md, "OpenAPI Call"; OpenAPI Specification 3.0.4, 3.1.1 and 2.0 (https://spec.openapis.org/oas/).
"""
