import pytest

from flowhook.document.loader import canonical, load_definition, parse

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"


def run(text):
    document = parse((HEAD + f"do: [{{a: {{run: {text}}}}}]").encode())
    assert load_definition(canonical(document.definition)) == document
    return document.workflow.do[0].task.run


def test_a_flow_runs_the_latest_version_of_another_one_and_awaits_it():
    made = run("{workflow: {namespace: shop, name: ship}}")
    assert (made.workflow.namespace, made.workflow.name, made.workflow.version) == ("shop", "ship", "latest")
    assert (made.workflow.input, made.await_) == (None, True)


def test_a_flow_may_run_a_version_of_another_one_and_go_on():
    made = run("{workflow: {namespace: shop, name: ship, version: 1.0.0-rc.1, input: '${ .order }'}, await: false}")
    assert (made.workflow.version, made.workflow.input, made.await_) == ("1.0.0-rc.1", "${ .order }", False)
    assert run("{workflow: {namespace: shop, name: ship}, return: none}").return_ == "none"


@pytest.mark.parametrize("language", ["python", "js", "javascript"])
def test_scripts_of_two_languages_are_written_here_or_fetched(language):
    assert run(f"{{script: {{language: {language}, code: print(1)}}}}").script.code == "print(1)"
    fetched = run(f"{{script: {{language: {language}, source: {{endpoint: 'https://x.y/z'}}}}, return: code}}")
    assert (fetched.script.source.endpoint, fetched.return_) == ("https://x.y/z", "code")


def test_a_command_gets_values_as_arguments_environment_and_input():
    made = run("{shell: {command: cat, stdin: '${ . }', arguments: ['${ .a }', b], environment: {C: '${ .c }', D: 4}}}")
    assert (made.shell.command, made.shell.stdin, made.shell.arguments) == ("cat", "${ . }", ("${ .a }", "b"))
    assert (made.shell.environment, made.return_) == ({"C": "${ .c }", "D": 4}, "stdout")
