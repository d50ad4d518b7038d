"""What a document and the parameters of a call become."""

from __future__ import annotations

import pytest
from support.cases import cases

from runner.components.openapi.call import build_request
from runner.components.openapi.operations import document_fault, find_operation
from runner.components.resource import parse as parse_document
from runner.interpreter.errors import TaskFault

URI = "https://docs.example/v1/openapi.yaml"

PETS = """
openapi: 3.1.0
servers:
  - url: "{scheme}://api.example/{version}"
    variables: {scheme: {default: https}, version: {default: v2}}
paths:
  /pets/{id}:
    parameters:
      - {$ref: "#/components/parameters/id"}
      - {name: verbose, in: query, required: true}
    get:
      operationId: getPet
      parameters:
        - {name: verbose, in: query}
        - {name: fields, in: query, explode: false}
        - {name: X-Trace, in: header}
        - {name: session, in: cookie}
        - {name: Authorization, in: header, required: true}
      responses: {200: {description: numbers as keys are usual}}
  /pets:
    servers: [{url: ../other}]
    post:
      operationId: addPet
      requestBody: {$ref: "#/components/requestBodies/pet"}
      parameters: [{name: dry, in: query}]
    put:
      operationId: replacePets
      servers: [{url: "https://writer.example"}]
      requestBody: {content: {text/plain: {}, application/vnd.pets+json: {}}}
    patch:
      operationId: comment
      requestBody:
        content:
          application/json:
            schema: {allOf: [{$ref: "#/components/schemas/comment"}, {$ref: "#/components/schemas/loop"}]}
  /form/{undeclared}:
    post:
      operationId: sendForm
      requestBody:
        content:
          application/x-www-form-urlencoded:
            encoding: {tags: {style: pipeDelimited}, meta: {contentType: application/json}}
  /upload:
    post: {operationId: upload, requestBody: {content: {multipart/form-data: {}}}}
  /note:
    post: {operationId: note, requestBody: {required: true, content: {text/markdown: {}}}}
  /lost:
    get: {operationId: outside, parameters: [{$ref: "other.yaml#/x"}]}
    put: {operationId: circle, parameters: [{$ref: "#/components/parameters/circle"}]}
    post: {operationId: nowhere, parameters: [{$ref: "#/components/parameters/none"}]}
  /up/../there:
    get: {operationId: climb}
components:
  parameters:
    id: {name: id, in: path, required: true}
    circle: {$ref: "#/components/parameters/circle"}
  requestBodies:
    pet: {required: true, content: {application/json: {}}}
  schemas:
    comment: {properties: {title: {}, body: {}}}
    loop: {allOf: [{$ref: "#/components/schemas/loop"}]}
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Api-Key}
    oauth: {type: oauth2}
"""

SWAGGER = """
swagger: 2.0
host: petstore.example
basePath: /v2
schemes: [http, https]
consumes: [application/xml, application/json]
paths:
  /pet/findByStatus:
    get:
      operationId: findPetsByStatus
      parameters:
        - {name: status, in: query, required: true, type: array, collectionFormat: multi}
        - {name: kinds, in: query, type: array}
        - {name: ages, in: query, type: array, collectionFormat: pipes}
  /pet:
    post:
      operationId: addPet
      parameters: [{name: pet, in: body, required: true, schema: {}}]
  /pet/{petId}:
    post:
      operationId: updatePet
      consumes: [application/x-www-form-urlencoded]
      parameters:
        - {name: petId, in: path, required: true, type: integer}
        - {name: name, in: formData, required: true}
        - {name: tags, in: formData, type: array, collectionFormat: multi}
securityDefinitions:
  api_key: {type: apiKey, in: query, name: api_key}
"""


def request(operation, document=PETS, uri=URI, **parameters):
    return build_request(find_operation(parse_document(document.encode(), document_fault), operation, uri), parameters)


def shown(made):
    return made.method, str(made.url), made.headers, made.body


def test_parameters_go_where_they_are_declared():
    given = {"id": "a b", "fields": ["name", "age"], "X-Trace": 7, "session": "s", "X-Api-Key": "k3y", "verbose": None}
    assert shown(request("getPet", **given)) == (
        "GET",
        "https://api.example/v2/pets/a%20b?fields=name,age",
        {"X-Trace": "7", "X-Api-Key": "k3y", "Cookie": "session=s"},
        None,
    )


def test_a_header_that_a_document_calls_cookie_is_sent_beside_the_parameters_in_cookies():
    document = PETS.replace("{name: X-Trace, in: header}", "{name: cookie, in: header}")
    made = request("getPet", document, id=1, verbose=True, cookie="a=1", session="s")
    assert made.headers.getall("Cookie") == ["a=1", "session=s"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": "Minka", "age": 3}, b'{"name":"Minka","age":3}'),
        ({"body": {"name": "Minka"}}, b'{"name":"Minka"}'),
        ({"body": "Minka", "dry": True}, b'"Minka"'),
        ({"body": [1]}, b"[1]"),
    ],
)
def test_what_is_no_parameter_is_the_body(given, expected):
    made = request("addPet", **given)
    assert (made.body, made.headers["Content-Type"]) == (expected, "application/json")
    assert made.url.raw_query_string == ("dry=true" if "dry" in given else "")


def test_a_member_of_the_body_may_be_called_body():
    assert request("comment", title="t", body="b").body == b'{"title":"t","body":"b"}'


def test_json_is_preferred_whatever_it_is_called_and_a_text_is_sent_as_it_is():
    made = request("replacePets", body={"a": 1})
    assert (made.body, made.headers) == (b'{"a":1}', {"Content-Type": "application/vnd.pets+json"})
    made = request("note", body="# ü")
    assert (made.body, made.headers) == ("# ü".encode(), {"Content-Type": "text/markdown"})


def test_a_form_is_written_as_the_document_says():
    made = request("sendForm", undeclared="x", name="a b", list=[1, 2], tags=["p", "q"], object={"a": 1}, meta=[1])
    assert made.body == b"name=a%20b&list=1&list=2&tags=p%7Cq&object=%7B%22a%22%3A1%7D&meta=%5B1%5D"
    assert str(made.url) == "https://api.example/v2/form/x"


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("replacePets", "https://writer.example/pets"), ("addPet", "https://docs.example/other/pets")],
)
def test_the_nearest_server_counts_and_may_be_relative_to_the_document(operation, expected):
    assert str(request(operation, body={}).url) == expected


def test_without_a_server_the_document_gives_the_url():
    document = "openapi: 3.0.0\npaths: {/a: {get: {operationId: a}}}"
    assert str(request("a", document).url) == "https://docs.example/a"


def test_swagger_is_understood_as_well():
    made = request("findPetsByStatus", SWAGGER, status=["new", "old"], kinds=["a", "b"], ages=[1, 2], api_key="k")
    assert str(made.url) == (
        "https://petstore.example/v2/pet/findByStatus?status=new&status=old&kinds=a,b&ages=1%7C2&api_key=k"
    )
    assert str(request("findPetsByStatus", SWAGGER, "http://x.example/", status="new").url).startswith(
        "http://petstore"
    )
    made = request("addPet", SWAGGER, pet={"name": "Minka"})
    assert (made.body, made.headers) == (b'{"name":"Minka"}', {"Content-Type": "application/json"})
    made = request("updatePet", SWAGGER, petId=7, name="Minka", tags=["a", "b"])
    assert (made.method, made.url.path, made.body) == ("POST", "/v2/pet/7", b"name=Minka&tags=a&tags=b")


@cases(
    ("operation", "given", "expected"),
    [
        ("nope", {}, "there is no operation nope in the document"),
        ("getPet", {}, "with.parameters: getPet needs id"),
        ("getPet", {"id": ".."}, "with.parameters.id is '.' or '..', which leads to another path"),
        ("getPet", {"id": 1, "feilds": 2}, "getPet has no feilds; its parameters are id, verbose, fields, X-Trace"),
        ("addPet", {}, "with.parameters: addPet needs body"),
        ("addPet", {"body": {}, "name": "x"}, "addPet has no name"),
        ("note", {"body": {}}, "the body is text/markdown, and has to be a text"),
        ("note", {}, "note needs body"),
        ("upload", {"file": "x"}, "multipart/form-data is not supported"),
        ("sendForm", {"undeclared": "x", "tags": [[1]]}, "nested arrays or objects"),
        ("outside", {}, "the reference other.yaml#/x leads out of the document"),
        ("circle", {}, "references lead in circles"),
        ("nowhere", {}, "the reference #/components/parameters/none leads nowhere"),
        ("climb", {}, "the path of climb leads to a different path"),
    ],
)
def test_what_will_not_do_is_a_configuration_error_that_names_it(operation, given, expected):
    with pytest.raises(TaskFault) as caught:
        request(operation, **given)
    assert caught.value.error.type.endswith("/configuration")
    assert expected in caught.value.error.detail


def test_required_members_of_a_form_are_reported():
    with pytest.raises(TaskFault, match="updatePet needs petId, name"):
        request("updatePet", SWAGGER)


@cases(
    ("document", "expected"),
    [
        ("asyncapi: 3.0.0", "neither OpenAPI 3 nor Swagger 2.0"),
        ("openapi: 2.0.0", "neither OpenAPI 3 nor Swagger 2.0"),
        ("[]", "neither OpenAPI 3 nor Swagger 2.0"),
        ("<html>", "neither OpenAPI 3 nor Swagger 2.0"),
        ("a: [", "neither JSON nor YAML"),
        ("", "neither JSON nor YAML"),
        ("# " + "x" * 300_000, "for YAML it is too large"),
        ("openapi: 3.0.0\nservers: [{url: 'https://[x'}]\npaths: {/a: {get: {operationId: a}}}", "URL of the server"),
        ("openapi: 3.0.0\nservers: [{url: '{x}'}]\npaths: {/a: {get: {operationId: a}}}", "has no default"),
    ],
)
def test_what_is_no_document_is_refused(document, expected):
    with pytest.raises(TaskFault) as caught:
        request("a", document)
    assert expected in caught.value.error.detail


@cases("value", [None, 1, "x", [], {}, [1], ["x"], {"x": 1}, [[]], {"x": {}}])
@cases(
    "place",
    [
        "paths",
        "servers",
        "item",
        "parameters",
        "parameter",
        "requestBody",
        "content",
        "schema",
        "components",
        "schemes",
    ],
)
def test_nothing_in_a_document_is_taken_to_be_of_the_type_it_should_be(place, value):
    operation = {"operationId": "a", "parameters": [{"name": "q", "in": "query"}], "requestBody": {"content": {}}}
    document = {"openapi": "3.0.0", "paths": {"/a": {"get": operation}}, "servers": [{"url": "https://x.example"}]}
    match place:
        case "paths" | "servers" | "components":
            document[place] = value
        case "item":
            document["paths"]["/a"] = value
        case "parameters" | "requestBody":
            operation[place] = value
        case "parameter":
            operation["parameters"] = [value, {"name": value, "in": value, "style": value, "content": value}]
        case "content":
            operation["requestBody"] = {"content": value}
        case "schema":
            operation["requestBody"] = {"content": {"application/json": {"schema": value, "encoding": value}}}
        case "schemes":
            document["components"] = {"securitySchemes": value}
    try:
        build_request(find_operation(document, "a", URI), {})
    except TaskFault as problem:
        assert problem.error.type.endswith("/configuration")  # noqa: PT017 - it need not raise
