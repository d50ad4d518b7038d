"""`flowhook new`: writes a flow file for a provider's webhooks, and a test of it with a sample of its events."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from typer import Argument, Option

from flowhook.errors import ConflictError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from flowhook.providers.sample_files import Sample

_PLAIN: Final = re.compile(r"[\w./<>+= -]+")  # text that needs no quotes in YAML

_FLOW: Final = """\
# yaml-language-server: $schema={schema}
#
# {about}
#
{commands}
document:
  dsl: 1.0.3
  namespace: default
  name: {name}
  version: 1.0.0
webhook:
{steps}
  auth:
    {auth}{more}
do:
  # The input of the first task is the request: .body, .headers, .query and more. Choose what you
  # need of it: the output of a task is the input of the next one.
  - keep:
      set:
{kept}
  # Then do something with it, for example:
  # - send:
  #     call: http
  #     with:
  #       method: post
  #       endpoint: https://example.com/events
  #       body: ${{ . }}
"""


def provider_names() -> list[str]:
    from flowhook.providers import PROVIDERS

    return sorted(PROVIDERS)


def command(
    *,
    name: Annotated[str, Argument(metavar="NAME", help="Name of the flow, and of its file.")],
    provider: Annotated[
        str, Option(metavar="PROVIDER", help="Whose webhooks it receives.", autocompletion=provider_names)
    ],
    directory: Annotated[Path, Option("--dir", metavar="DIR", help="Directory of the flow files.")] = Path(),
) -> None:
    """Write a flow file for a provider's webhooks, and a test of it with a sample of the provider's events."""
    from cli.commands.components import write_schema
    from flowhook.document.definition import NAME_PATTERN
    from flowhook.providers.sample_files import all_samples

    samples = [sample for sample in all_samples() if sample.provider == provider]
    if not samples:
        known = ", ".join(provider_names())
        raise NotFoundError(
            f"there is no provider {provider[:100]}: choose one of {known}", reason="PROVIDER_NOT_FOUND"
        )
    path, sample = directory / f"{name}.yaml", samples[0]
    test = directory / "tests" / name / f"{sample.name.partition('/')[2]}.json"
    if not re.fullmatch(NAME_PATTERN, name):
        raise typer.BadParameter("NAME: letters, digits and hyphens, at most 63, with no hyphen at either end")
    try:
        files = {path: flow_text(name, sample, os.path.relpath(write_schema(), directory)), test: sample_test(sample)}
        if taken := next(filter(Path.exists, files), None):
            raise ConflictError(f"{taken} exists: choose another name", reason="FLOW_EXISTS")
        for each, content in files.items():
            each.parent.mkdir(parents=True, exist_ok=True)
            with each.open("x") as file:
                file.write(content)
            print(f"{each}: written")
    except OSError as error:
        raise InvalidError(f"{error.filename}: {error.strerror}", reason="FILE_NOT_WRITTEN") from None


def flow_text(name: str, sample: Sample, schema: str) -> str:
    """Return a flow that receives a provider's events and keeps a few values of them; `schema`: path of the schema."""
    from operations.provider_setup import setup_steps, webhook_settings

    settings = webhook_settings(sample.provider, f"{name}-secret")
    auth = settings.pop("auth")[sample.provider]
    secrets = [auth[key] for key in ("secret", "verify_token") if key in auth]
    commands = [
        ("flowhook dev", "runs it on this machine, and applies what you change"),
        *((f"flowhook secrets set {secret}", "sets a secret, which it asks for") for secret in secrets),
        (f"flowhook trigger {sample.name}{'' if secrets else ' --grpc'}", "sends it a sample of an event"),
        (f"flowhook test {name}.yaml", f"runs the tests in tests/{name}"),
    ]
    width = max(46, *(len(command) for command, _ in commands))
    steps = setup_steps(sample.provider, f"https://HOST/hook/{name}", next(iter(secrets), ""))
    return _FLOW.format(
        schema=schema,
        about=f"Webhooks of {sample.provider}; its events: {sample.source}",
        commands="\n".join(f"#   {command:<{width}} {what}" for command, what in commands),
        name=name,
        steps="\n".join(f"  # - {step}" for step in steps if "respond:" not in step),
        auth=f"{sample.provider}: {_flow_style(auth)}",
        more="".join(f"\n  {key}: {_flow_style(value)}" for key, value in settings.items()),
        kept="\n".join(f"        {key}: ${{ {expression} }}" for key, expression in sample.values),
    )


def sample_test(sample: Sample) -> str:
    """Return the test of that flow: the sample, no calls, and the output that is expected for it."""
    is_json = sample.content_type == "application/json"
    content = {
        "title": sample.title,
        "content_type": sample.content_type,
        "headers": dict(sample.headers),
        **({"body": orjson.loads(sample.body)} if is_json else {"text": sample.body}),
        "calls": [],
        "output": dict(_expected(sample)),
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _expected(sample: Sample) -> Iterator[tuple[str, Any]]:
    from flowhook.expressions.paths import compile_accessor
    from flowhook.limits import MAX_BODY_BYTES
    from flowhook.payloads.parsing import parse

    body = parse(sample.content_type, sample.body.encode(), (), limit=MAX_BODY_BYTES).body
    headers = {name.lower(): value for name, value in sample.headers}
    for name, expression in sample.values:
        *decoded, path = expression.split(" | fromjson | ")
        yield name, compile_accessor(path)(orjson.loads(body) if decoded else {"headers": headers, "body": body})


def _flow_style(settings: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{key}: {_scalar(value)}' for key, value in settings.items())}}}"


def _scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return _flow_style(value)
    return str(value) if _PLAIN.fullmatch(str(value)) else orjson.dumps(value).decode()
