"""Flow files that the tests of commands apply."""

from __future__ import annotations

DOCUMENT = "document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}\n"
HELLO = DOCUMENT.replace("NAME", "hello") + "webhook: {auth: none}\ndo:\n  - keep: {set: '${ .body }'}\n"
SIGNED = DOCUMENT.replace("NAME", "signed") + (
    "webhook:\n  auth:\n    - github: {secret: gh}\n    - basic: {username: bank, secret: pw}\n"
    "    - api_key: {query: key, secret: key}\n"
    "do:\n  - keep: {set: {query: '${ .query }'}}\n"
)
FAULTY = DOCUMENT.replace("NAME", "faulty") + "webhook: {auth: none}\ndo:\n  - add: {set: {sum: '${ .body + 1 }'}}\n"
QUIET = DOCUMENT.replace("NAME", "quiet") + "do:\n  - keep: {set: {a: 1}}\n"
