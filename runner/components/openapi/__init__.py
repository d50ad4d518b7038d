"""`call: openapi`, the DSL's own function: a request described by an OpenAPI document and sent like a `call: http`.

- `call`: builds a request from an operation and the parameters of a call, and passes it to `http`; `parameter_styles`
  serializes the parameters.
- `operations`: extracts one operation from a document of any supported version of OpenAPI, which `resource` has fetched
  and parsed.

Source: dsl-reference.md, "OpenAPI Call"; OpenAPI Specification 3.0.4, 3.1.1 and 2.0 (https://spec.openapis.org/oas/).
"""
