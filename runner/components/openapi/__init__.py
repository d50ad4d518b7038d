"""`call: openapi`, the DSL's own function: a request that a document describes, made as `call: http` makes it.

- `call`: fetches the document, and hands the request to `http`.
- `documents`: from bytes to plain JSON; what is kept.
- `operations`: what a document says of one operation, whichever version of OpenAPI it is.
- `references`: what refers to something else within the document.
- `requests`: an operation and the parameters of a call, made a request; `styles`: how parameters are written.

All but `call` and `documents` is pure. A document is somebody else's: nothing in it is taken to be of the type it
should be, and references lead nowhere but into the document itself.

Source: dsl-reference.md, "OpenAPI Call"; OpenAPI Specification 3.0.4, 3.1.1 and 2.0 (https://spec.openapis.org/oas/).
"""
