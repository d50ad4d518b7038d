"""Flow documents: Open Workflow (formerly CNCF Serverless Workflow) 1.0, plus the keys `webhook` and `execution`.

- `loader`: builds a `FlowDocument` from a flow file or from its stored form; the entry point for the rest of Flowhook.
- `models`: the keys of the DSL, under the DSL's names, and Flowhook's own (`webhook`, `auth`, `execution`). Runners
  derive the models of evaluated arguments from these.
- `diagnostics`: parsing and validation of a flow file, and warnings about valid ones (`lint`).
- `definition`: flow IDs, and iteration over the tasks and the event filters of a definition.
- `named_secrets`: the secrets that a document names. `quantities`: durations such as PT5M and sizes such as 10MiB.

Models are immutable and hold what was written: they evaluate nothing, and know no storage, transport or secret value.
"""
