"""The console: pages for people, made of plain links and forms. One file a page, its template beside it.

- `page`: the base class of pages: credentials, forms and their CSRF token, errors as pages.
- `rendering`: Jinja2 and its filters; `macros.html` has the components, `layout.html` the frame of every page.
- `login`: logging in and out.
- `apply`: the form for a flow's file.
- `diff`: two executions side by side.
- `test_event`: a form that sends a test event, signed by the router.
- `replay`: how to replay an execution, and what will run again.
- `flows`, `executions`, `faults`, `rejections`, `secrets`, `cluster`: the pages.
- `actions`: what buttons do: the operation of the API with the same path, then a redirect.
- `live`: the list of executions as server-sent events.
- `body_view`, `json_format`, `hexdump`: views of bodies, made from their bytes; pure.
- `static_files`: style sheet and scripts; `static/vendor/manifest.json` says where htmx is from.

Invariants: every value is escaped (autoescape); no page needs a script; no payload is parsed in the browser.
"""
