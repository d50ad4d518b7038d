"""Creates the one-time callback URLs that expressions see as `$runtime.metadata.callbacks.<name>`."""

from __future__ import annotations

from flowhook import callback_tokens
from flowhook.model import Event
from runner.interpreter.scope import OneTimeUrls
from runner.worker.program_cache import LoadedFlow


def one_time_urls(public_url: str, event: Event, flow: LoadedFlow) -> OneTimeUrls | None:
    """Return the callback URLs of an execution; None for a flow without callbacks.

    Args:
        public_url: scheme and host that senders use; empty: the URLs begin with the path.
        event: that started the execution.
        flow: that it runs.
    """
    names = tuple((flow.program.definition.get("webhook") or {}).get("callbacks") or ())
    if not names or not flow.callback_key:
        return None

    def url(name: str, number: int) -> str:
        token = callback_tokens.issue(flow.callback_key, event.id, name, number)
        return f"{public_url.rstrip('/')}/hook/{event.flow_id}/{name}/{token}"

    return OneTimeUrls(names, url)
