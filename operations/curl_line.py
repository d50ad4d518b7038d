"""Writes a request as a shell command; pure. `$SECRET` stands for a secret that the sender itself sends.

Source: https://curl.se/docs/manpage.html; POSIX, 2.2 "Quoting".
"""

from __future__ import annotations

import shlex
from typing import Final
from urllib.parse import quote

from flowhook.client import SignedRequest

PLACEHOLDER: Final = "$SECRET"

# bytes of a body that the command contains; a longer one is read from the file `body`, as most shells' limit is 128
# KiB for an argument
MAX_BODY: Final = 64 * 1024


def curl_line(request: SignedRequest) -> str:
    """Return the command; its arguments are quoted, so that the shell evaluates nothing of the request."""
    arguments = ["curl", "--include", "--globoff", "--request", shlex.quote(request.method)]
    url = shlex.quote(request.url)
    for name, value in request.headers:
        text = value.decode("utf-8", "replace")
        arguments += ["--header", shlex.quote(f"{name}: {text}" if text else f"{name};")]
    match request.credential:
        case ("header", name):
            arguments += ["--header", f'{shlex.quote(f"{name}: ")}"{PLACEHOLDER}"']
        case ("basic", name):
            arguments += ["--user", f'{shlex.quote(f"{name}:")}"{PLACEHOLDER}"']
        case ("query", name):
            encoded, joint = quote(name, safe=""), "&" if "?" in request.url else "?"
            url = f'{shlex.quote(f"{request.url}{joint}{encoded}=")}"{PLACEHOLDER}"'
    if request.body:
        arguments += _data(request.body)
        if not any(name.lower() == "content-type" for name, _ in request.headers):
            arguments += ["--header", "content-type:"]  # else curl says that it is a form
    return " ".join([*arguments, url])


def _data(body: bytes) -> list[str]:
    """Return the option with the body; a body that is no argument is read from a file."""
    text = body.decode("utf-8", "replace")
    if len(body) > MAX_BODY or "\x00" in text or text.encode() != body:
        return ["--data-binary", "@body"]
    return ["--data-raw", shlex.quote(text)]
