# one bad file a row reads best
import textwrap

import pytest
from support.cases import cases
from support.flow_files import HEAD, faults_of

# A task or a retry policy, then key and code.
BAD_TASKS = [
    ("{wait: 5 minutes}", "wait", "DURATION_INVALID"),
    ("{wait: .delay}", "wait", "DURATION_INVALID"),
    ("{wait: $context.delay}", "wait", "DURATION_INVALID"),
    ("{wait: {minutes: '${ .m }'}}", "wait", "DURATION_INVALID"),
    ("{set: {b: 1}, timeout: PT5M}", "timeout", "VALUE_TYPE"),
    ("{set: {b: 1}, timeout: 5 minutes}", "timeout", "VALUE_TYPE"),
    ("{set: {b: 1}, timeout: 30}", "timeout", "VALUE_TYPE"),
    ("{set: {b: 1}, timeout: []}", "timeout", "VALUE_TYPE"),
    ("{set: {b: 1}, timeout: soon}", "timeout", "REFERENCE_UNKNOWN"),
    ("{set: {b: 1}, timeout: {seconds: 30, minutes: 1}}", "timeout", "KEY_MISSING"),
]  # fmt: skip

BAD_POLICIES = [
    ("3", "", "VALUE_TYPE"),
    ("[]", "", "VALUE_TYPE"),
    ("{limit: 5}", ".limit", "VALUE_TYPE"),
    ("{limit: {attempt: 5}}", ".limit.attempt", "VALUE_TYPE"),
    ("{backoff: exponential}", ".backoff", "VALUE_TYPE"),
    ("{backoff: {constant: {maxDelay: PT5S}}}", ".backoff.constant.maxDelay", "KEY_UNKNOWN"),
    ("{backoff: {exponential: {factor: 3}}}", ".backoff.exponential.factor", "KEY_UNKNOWN"),
    ("{backoff: {exponential: {maxDelay: long}}}", ".backoff.exponential.maxDelay", "DURATION_INVALID"),
    ("webhok", "", "REFERENCE_UNKNOWN"),
    ("{jitter: {from: PT5S, to: {seconds: 1}}}", ".jitter", "VALUE_RANGE"),
]  # fmt: skip

BAD_DOCUMENTS = [
    ("timeout: PT5M", "timeout", "VALUE_TYPE"),
    ("use: {timeouts: {brief: PT5M}}", "use.timeouts.brief", "VALUE_TYPE"),
    ("use: {timeouts: {brief: other}}", "use.timeouts.brief", "VALUE_TYPE"),
    ("use: {timeouts: {brief: {seconds: 5}}}", "use.timeouts.brief", "KEY_MISSING"),
    ("use: {retries: {mine: other}}", "use.retries.mine", "VALUE_TYPE"),
    ("use: {retries: {mine: quick}}", "use.retries.mine", "VALUE_TYPE"),
    ("execution: {retry: quik}", "execution.retry", "REFERENCE_UNKNOWN"),
    ("do: [{a: {try: [{b: {set: {c: 1}}}], catch: {retry: quick}}}]", "do[0].a.catch.retry", "REFERENCE_UNKNOWN"),
]  # fmt: skip


@cases(("task", "key", "code"), BAD_TASKS)
def test_a_bad_duration_or_timeout_names_its_place(task, key, code):
    assert faults_of(HEAD + f"do:\n- a: {task}") == [(3, f"do[0].a.{key}", code)]


@cases(("policy", "key", "code"), BAD_POLICIES)
def test_a_bad_retry_policy_names_its_place(policy, key, code):
    tasks = f"""
      - a:
          try: [{{b: {{set: {{c: 1}}}}}}]
          catch: {{retry: {policy}}}
      - d: {{call: twitter.post, with: {{text: e}}, metadata: {{retry: {policy}}}}}
    """
    assert faults_of(HEAD + "do:" + textwrap.dedent(tasks)) == [
        (5, f"do[0].a.catch.retry{key}", code),
        (6, f"do[1].d.metadata.retry{key}", code),
    ]


@pytest.mark.parametrize(("text", "key", "code"), BAD_DOCUMENTS)
def test_bad_timing_of_a_document_names_its_place(text, key, code):
    assert faults_of(HEAD + f"{text}\n" + ("do: []" * ("do:" not in text))) == [(2, key, code)]


def test_a_timeout_may_have_a_name_that_looks_like_a_duration():
    text = HEAD + "use: {timeouts: {PT5M: {after: PT5M}}}\ndo: [{a: {set: {b: 1}, timeout: PT5M, then: nowhere}}]"
    assert [key for _, key, _ in faults_of(text)] == ["do[0].a.then"]
