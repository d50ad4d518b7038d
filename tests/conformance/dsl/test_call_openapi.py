"""`call: openapi`.

Source: dsl-reference.md, "OpenAPI Call"; the specification's ctk/features/call, in our own words.
"""

from __future__ import annotations


def call(shop, operation, parameters, more="", after=""):
    document = f"document: {{endpoint: '{shop.url}/swagger.json'}}"
    arguments = f"{document}, operationId: {operation}, parameters: {parameters}{more}"
    return f"do: [{{ask: {{call: openapi, with: {{{arguments}}}{after}}}}}]"


async def test_an_operation_gives_the_content_of_its_answer_which_may_be_filtered(run, pets):
    parameters = "{status: '${ .status }'}"
    document = call(pets, "findPetsByStatus", parameters, after=", output: {as: '. | length'}")
    assert (await run(document, {"status": "available"})).output == 1
    assert pets.received[-1].path == "/pets?status=available"


async def test_an_operation_gives_the_whole_response_that_shows_its_request(run, pets):
    document = call(pets, "getPetById", "{petId: '${ .petId }'}", ", output: response")
    output = (await run(document, {"petId": 1})).output
    assert set(output) == {"request", "statusCode", "headers", "content"}
    assert set(output["request"]) == {"method", "uri", "headers"}
    assert (output["request"]["uri"], output["statusCode"]) == (f"{pets.url}/pets/1", 200)
    assert output["content"] == {"id": 1, "name": "milou", "status": "available"}


async def test_an_operation_that_is_not_there_is_a_configuration_error(run, pets):
    assert (await run(call(pets, "buyPet", "{}"), {})).fault == ("configuration", 400, "/do/0/ask")
