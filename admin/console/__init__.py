"""The console: pages for people, made of plain links and forms. Templates stand beside the modules.

- `page`: the base class of pages: credentials, forms and their CSRF token, errors as pages.
- `rendering`: Jinja2 and its filters; `macros.html` has the components, `layout.html` the frame of every page.
- `actions`: what buttons do: the operation of the API with the same path, then a redirect.
- `live`: lists as server-sent events.
- `body_view`: views of bodies, made from their bytes; pure.
- `static_files`: style sheet and scripts; `static/vendor/manifest.json` says where htmx is from.

Invariants: every value is escaped (autoescape); no page needs a script; no payload is parsed in the browser.
"""
