# ruff: noqa: E501  # one bad file a row reads best
import textwrap

import pytest
from support.flow_files import HEAD, faults_of

NAMED = ", or the name of one in `use.timeouts`"

# A task or a retry policy, then key and cause.
BAD_TASKS = [
    ("{wait: 5 minutes}", "wait", "'5 minutes' is no duration, did you mean PT5M?"),
    ("{wait: .delay}", "wait", "expected a duration such as PT5M; as an expression it is written ${ .delay }"),
    ("{wait: $context.delay}", "wait", "expected a duration such as PT5M; as an expression it is written ${ $context.delay }"),
    ("{wait: {minutes: '${ .m }'}}", "wait", "a duration is an expression as a whole or has none, not in one of its units"),
    ("{set: {b: 1}, timeout: PT5M}", "timeout", "expected a timeout: {after: PT5M}" + NAMED),
    ("{set: {b: 1}, timeout: 5 minutes}", "timeout", "expected a timeout: {after: PT5M}" + NAMED),
    ("{set: {b: 1}, timeout: 30}", "timeout", "expected a timeout: {after: PT30S}" + NAMED),
    ("{set: {b: 1}, timeout: []}", "timeout", "expected a timeout: {after: PT30S}" + NAMED),
    ("{set: {b: 1}, timeout: soon}", "timeout", "there is no timeout 'soon' in `use.timeouts`"),
    ("{set: {b: 1}, timeout: {seconds: 30, minutes: 1}}", "timeout", "the duration stands below `after`: {after: {seconds: 30, minutes: 1}}"),
]  # fmt: skip

BAD_POLICIES = [
    ("3", "", "expected a retry policy: {delay: PT1S, limit: {attempt: {count: 3}}}, or the name of one in `use.retries`"),
    ("[]", "", "expected a retry policy: {delay: PT1S, limit: {attempt: {count: 3}}}, or the name of one in `use.retries`"),
    ("{limit: 5}", ".limit", "expected a mapping: {attempt: {count: 5}}"),
    ("{limit: {attempt: 5}}", ".limit.attempt", "expected a mapping: {count: 5}"),
    ("{backoff: exponential}", ".backoff", "expected a mapping: {exponential: {}}"),
    ("{jitter: {from: PT5S, to: {seconds: 1}}}", ".jitter", "expected `from` to be no longer than `to`"),
]  # fmt: skip

BAD_DOCUMENTS = [
    ("timeout: PT5M", "timeout", "expected a timeout: {after: PT5M}" + NAMED),
    ("use: {timeouts: {brief: PT5M}}", "use.timeouts.brief", "expected a timeout: {after: PT5M}"),
    ("use: {timeouts: {brief: other}}", "use.timeouts.brief", "expected a timeout: {after: PT30S}"),
    ("use: {timeouts: {brief: {seconds: 5}}}", "use.timeouts.brief", "the duration stands below `after`: {after: {seconds: 5}}"),
    ("use: {retries: {mine: other}}", "use.retries.mine", "expected a retry policy: {delay: PT1S, limit: {attempt: {count: 3}}}"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "key", "cause"), BAD_TASKS)
def test_a_bad_duration_or_timeout_says_how_to_write_it(task, key, cause):
    assert faults_of(HEAD + f"do:\n- a: {task}") == [(3, f"do[0].a.{key}", cause)]


@pytest.mark.parametrize(("policy", "key", "cause"), BAD_POLICIES)
def test_a_bad_retry_policy_says_how_to_write_it(policy, key, cause):
    tasks = f"""
      - a:
          try: [{{b: {{set: {{c: 1}}}}}}]
          catch: {{retry: {policy}}}
      - d: {{call: twitter.post, with: {{text: e}}, metadata: {{retry: {policy}}}}}
    """
    assert faults_of(HEAD + "do:" + textwrap.dedent(tasks)) == [
        (5, f"do[0].a.catch.retry{key}", cause),
        (6, f"do[1].d.metadata.retry{key}", cause),
    ]


@pytest.mark.parametrize(("text", "key", "cause"), BAD_DOCUMENTS)
def test_bad_timing_of_a_document_says_how_to_write_it(text, key, cause):
    assert faults_of(HEAD + f"{text}\ndo: []") == [(2, key, cause)]


def test_a_timeout_may_have_a_name_that_looks_like_a_duration():
    text = HEAD + "use: {timeouts: {PT5M: {after: PT5M}}}\ndo: [{a: {set: {b: 1}, timeout: PT5M, then: nowhere}}]"
    assert [key for _, key, _ in faults_of(text)] == ["do[0].a.then"]
