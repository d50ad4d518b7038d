"""Checks calls and their authentication, functions of catalogs, and the processes that tasks run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flowhook.document import catalogs
from flowhook.document.catalogs import catalog_of, is_cataloged
from flowhook.document.definition import POLICIES, strings_in, value_at, walk
from flowhook.document.diagnostics.problems import Code, Problem, suggestion
from flowhook.document.diagnostics.rules import unsupported
from flowhook.document.diagnostics.rules.context import TASK_VARIABLES, Part, RuleContext, mapping, unsettled
from flowhook.document.diagnostics.shapes import check_shape, keys_of
from flowhook.document.models import calls
from flowhook.document.models.tasks import CallTask

_BESIDE: Final = frozenset(keys_of([CallTask])) - {"with"}  # keys allowed beside the arguments of a call


def check_call(context: RuleContext, task: Part) -> Iterator[Problem]:
    """Yield the problems of a `call` task: of its function, its arguments and the function in the catalog."""
    name, arguments, is_given = task.at("call").value, task.at("with"), "with" in task.value
    if is_cataloged(name):
        yield from _check_call_of_catalog(context, task.at("call"), task.at("metadata", "sha256"))
    unknown = _unknown_function(context, name) if isinstance(name, str) else None
    if unknown is not None:
        yield task.at("call").problem(*unknown)
        if name in unsupported.FUNCTIONS:
            return  # its arguments follow rules of their own
    own = arguments
    if name == "asyncapi":  # the expressions of a subscription are checked by `rules.tasks`
        given = mapping(arguments.value)
        own = arguments._replace(value={key: each for key, each in given.items() if key != "subscription"})
    yield from context.template(own, TASK_VARIABLES)
    if not isinstance(name, str):
        return
    if name in calls.FUNCTION_ARGUMENTS:
        if not is_given:
            yield arguments.problem(Code.KEY_MISSING, "the key 'with' is missing")
        elif isinstance(arguments.value, dict):
            policies = list(_policies(context, name, arguments))
            yield from policies
            model = calls.FUNCTION_ARGUMENTS[name]
            yield from unsettled(check_shape(model, arguments.value, arguments.path, around=_BESIDE), policies)
    elif name in calls.COMPONENT_ARGUMENTS and unknown is None and (not is_given or isinstance(arguments.value, dict)):
        model = calls.COMPONENT_ARGUMENTS[name]
        yield from check_shape(model, mapping(arguments.value), arguments.path, around=_BESIDE)


def check_authentication(context: RuleContext, policy: Part) -> Iterator[Problem]:
    yield from policy.null_keys(within=True)
    for key, credentials in policy.members:
        if key in unsupported.AUTHENTICATIONS:
            yield credentials.problem(Code.UNSUPPORTED, unsupported.AUTHENTICATIONS[key])
        elif key == "use":
            known = context.authentications
            yield from context.reference(credentials, known, "authentication {} in `use.authentications`")
        else:
            yield from context.secret(credentials.at("use"))


def _policies(context: RuleContext, function: str, arguments: Part) -> Iterator[Problem]:
    """Check the authentication policies of a call, and the mappings that contain them."""
    for place in POLICIES[function]:
        for length in range(1, len(place)):
            yield from arguments.at(*place[:length]).null_keys()
        policy = arguments.at(*place)
        if isinstance(policy.value, str) and policy.value in context.authentications:
            yield policy.problem(Code.VALUE_TYPE, f"expected a mapping: {{use: {policy.value}}}")
        yield from check_authentication(context, policy)
        if place == ("service", "authentication"):
            written, named = mapping(policy.value), policy.at("use").value
            known = mapping(context.authentications.get(named)) if isinstance(named, str) else {}
            if "digest" in written or "digest" in known:
                cause = "digest authentication works with HTTP only: use basic, bearer, oauth2 or oidc"
                yield policy.at("digest" if "digest" in written else "use").problem(Code.AUTH_INVALID, cause)


def _unknown_function(context: RuleContext, name: str) -> tuple[Code, str] | None:
    """Return why a `call` can't name this function, as a code and a cause; None if it can."""
    known = {*calls.FUNCTION_ARGUMENTS, *(context.functions or ()), *context.own_functions}
    if name in known:
        return None
    if name in unsupported.FUNCTIONS:
        return Code.UNSUPPORTED, unsupported.FUNCTIONS[name]
    if context.functions is None or is_cataloged(name):
        return None
    return Code.FUNCTION_UNKNOWN, f"unknown function {name!r}{suggestion(name, known)}"


def check_run(context: RuleContext, task: Part) -> Iterator[Problem]:
    run = task.mapping_at("run")
    yield from run.null_keys()
    for key, cause in unsupported.PROCESSES.items():
        if key in run.value:
            yield run.at(key).problem(Code.UNSUPPORTED, cause)
            return
    yield from context.template(run, TASK_VARIABLES)
    for _, process in run.members:
        yield from process.null_keys()
        yield from process.at("environment").null_keys()
    endpoint = run.at("script", "source", "endpoint")
    yield from endpoint.null_keys()
    yield from check_authentication(context, endpoint.at("authentication"))


_PASSED: Final = "pass what it needs as an argument, from `with` of the call"


def check_cataloged_function(name: str, task: Part) -> Iterator[Problem]:
    """Check that a function uses nothing but its arguments, the DSL's functions, and functions of its own catalog.

    Others write it, so it sees no secret of a flow.
    """
    for path, text in strings_in(task.value, task.path):
        if "$secrets" in text or ("authentication" in path and path[-1] == "use"):
            cause = f"a function of a catalog can't use secrets or policies of the flow: {_PASSED}"
            yield Problem(path, Code.REFERENCE_UNKNOWN, cause)
    for placed in walk({"do": [{name: task.value}]}):
        called = placed.task.get("call")
        if not isinstance(called, str) or called in calls.FUNCTION_ARGUMENTS:
            continue
        place = (*task.path, *placed.path[3:], "call")
        if not is_cataloged(called):
            cause = f"a function of a catalog can't call {called!r}, only the DSL's functions and those of its catalog"
            yield Problem(place, Code.FUNCTION_UNKNOWN, cause)
        elif catalog_of(called) != catalog_of(name):
            cause = f"a function of a catalog can't call {called!r}, which is of another one"
            yield Problem(place, Code.FUNCTION_UNKNOWN, cause)


def _check_call_of_catalog(context: RuleContext, call: Part, digest: Part) -> Iterator[Problem]:
    """Check a call of a function of a catalog; `digest` is what the task says of the function's file."""
    name = call.value
    function = context.own_functions.get(name)
    if function is not None:
        actual = value_at(function, ("metadata", "catalog", "sha256"))
        if digest.value is not None and digest.value != actual:
            yield digest.problem(Code.DIGEST_DIFFERS, f"the file of {name!r} has the SHA-256 {actual}")
        return
    reference = catalogs.REFERENCE.fullmatch(name)
    known: dict[str, Any] = context.catalogs
    if reference is None and not catalogs.FILE_URL.fullmatch(name):
        cause = (
            f"{name!r} names no function: expected name:1.0.0@catalog, "
            "or the https URL of its file, which ends in .yaml, .yml or .json"
        )
        yield call.problem(Code.FUNCTION_UNKNOWN, cause)
    elif reference is not None and reference["catalog"] not in {*known, catalogs.DEFAULT}:
        cause = (
            f"there is no catalog {reference['catalog']!r} in `use.catalogs`{suggestion(reference['catalog'], known)}"
        )
        yield call.problem(Code.REFERENCE_UNKNOWN, cause)
    elif name not in (context.functions or ()):
        cause = f"{name!r} is not part of the flow: `flowhook apply` fetches functions of catalogs, and adds them"
        yield call.problem(Code.FUNCTION_UNKNOWN, cause)
