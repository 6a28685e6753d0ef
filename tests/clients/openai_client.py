"""The engine through OpenAI's own Python client, unchanged but for the address.

BITNET_URL is the engine's address. BITNET_OPENAPI is a file with OpenAI's published API description (JSON); where it is
set, the raw answers must conform to it. The tests' runner is `tests/tests/clients.rs`.
"""

import asyncio
import functools
import json
import os
import unittest

import jsonschema
import openai

URL = os.environ["BITNET_URL"] + "/v1"
OPENAPI = os.environ.get("BITNET_OPENAPI")
client = openai.OpenAI(base_url=URL, api_key="unused", max_retries=0, timeout=60)

# One question, always with the same answer, since it is greedy.
QUESTION = {
    "model": "any",
    "messages": [{"role": "user", "content": "Name a colour."}],
    "temperature": 0,
    "max_tokens": 24,
}
PROMPT = {"model": "any", "prompt": "The kettle sings", "temperature": 0, "max_tokens": 24}


@functools.cache
def components():
    """The schemas, with `nullable` (OpenAPI 3.0, which the description still uses here and there) spelt out."""

    def nullable(schema):
        if isinstance(schema, list):
            return [nullable(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        schema = {key: nullable(value) for key, value in schema.items()}
        return {"anyOf": [schema, {"type": "null"}]} if schema.pop("nullable", None) is True else schema

    with open(OPENAPI, encoding="utf-8") as file:
        return nullable(json.load(file)["components"])


def conforms(document, schema):
    """Fails unless the JSON text is what OpenAI's description calls `schema`."""
    if OPENAPI:
        schema = {"$ref": f"#/components/schemas/{schema}", "components": components()}
        jsonschema.Draft202012Validator(schema).validate(json.loads(document))


class Answers(unittest.TestCase):
    def test_a_chat_answer_conforms_and_is_counted(self):
        raw = client.chat.completions.with_raw_response.create(**QUESTION)
        conforms(raw.text, "CreateChatCompletionResponse")
        answer = raw.parse()
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertTrue(answer.choices[0].message.content)
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertGreater(answer.usage.prompt_tokens, 0)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_a_streamed_chat_answer_conforms_and_equals_the_whole_one(self):
        whole = client.chat.completions.create(**QUESTION)
        stream = client.chat.completions.create(**QUESTION, stream=True, stream_options={"include_usage": True})
        *chunks, last = list(stream)
        for chunk in [*chunks, last]:
            conforms(chunk.to_json(exclude_unset=True), "CreateChatCompletionStreamResponse")
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertEqual(last.choices, [])
        self.assertEqual(last.usage.completion_tokens, whole.usage.completion_tokens)

    def test_the_asynchronous_client_gets_the_same_text(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=URL, api_key="unused", max_retries=0, timeout=60) as client:
                stream = await client.chat.completions.create(**QUESTION, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        whole = client.chat.completions.create(**QUESTION)
        self.assertEqual(asyncio.run(ask()), whole.choices[0].message.content)

    def test_chat_log_probabilities_conform_and_are_sorted(self):
        raw = client.chat.completions.with_raw_response.create(**QUESTION, logprobs=True, top_logprobs=3)
        conforms(raw.text, "CreateChatCompletionResponse")
        answer = raw.parse()
        self.assertEqual(len(answer.choices[0].logprobs.content), answer.usage.completion_tokens)
        for token in answer.choices[0].logprobs.content:
            alternatives = [alternative.logprob for alternative in token.top_logprobs]
            self.assertEqual(len(alternatives), 3)
            self.assertEqual(alternatives, sorted(alternatives, reverse=True))
            self.assertEqual(token.logprob, alternatives[0], "greedy takes the most probable token")

    def test_the_same_seed_gives_the_same_text(self):
        sampled = {**QUESTION, "temperature": 1, "seed": 7}
        first, second = (client.chat.completions.create(**sampled) for _ in range(2))
        self.assertEqual(first.choices[0].message.content, second.choices[0].message.content)

    def test_a_completion_conforms_and_equals_its_stream(self):
        raw = client.completions.with_raw_response.create(**PROMPT)
        conforms(raw.text, "CreateCompletionResponse")
        whole = raw.parse()
        self.assertTrue(whole.choices[0].text)
        chunks = list(client.completions.create(**PROMPT, stream=True))
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), whole.choices[0].text)
        self.assertEqual(chunks[-1].choices[0].finish_reason, whole.choices[0].finish_reason)

    def test_a_completion_can_begin_with_its_prompt(self):
        plain = client.completions.create(**PROMPT).choices[0].text
        echoed = client.completions.create(**PROMPT, echo=True).choices[0].text
        self.assertEqual(echoed, PROMPT["prompt"] + plain)

    def test_completion_log_probabilities_conform(self):
        raw = client.completions.with_raw_response.create(**PROMPT, logprobs=2)
        conforms(raw.text, "CreateCompletionResponse")
        answer = raw.parse()
        logprobs = answer.choices[0].logprobs
        for entries in (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, logprobs.text_offset):
            self.assertEqual(len(entries), answer.usage.completion_tokens)

    def test_the_list_of_models_conforms_and_has_one(self):
        raw = client.models.with_raw_response.list()
        conforms(raw.text, "ListModelsResponse")
        self.assertEqual(len(raw.parse().data), 1)

    @unittest.skipUnless(OPENAPI, "BITNET_OPENAPI is not set")
    def test_the_description_refuses_what_does_not_conform(self):
        with self.assertRaises(jsonschema.ValidationError):
            conforms('{"object": "list"}', "ListModelsResponse")


class Errors(unittest.TestCase):
    def refused(self, kind, request, **parameters):
        with self.assertRaises(kind) as context:
            request(**parameters)
        conforms(context.exception.response.text, "ErrorResponse")
        return context.exception

    def test_a_prompt_that_does_not_fit_is_a_bad_request_with_both_numbers(self):
        messages = [{"role": "user", "content": "one two three " * 2000}]
        error = self.refused(openai.BadRequestError, client.chat.completions.create, **{**QUESTION, "messages": messages})
        self.assertEqual(error.type, "exceed_context_size_error")
        self.assertGreater(error.body["n_prompt_tokens"], error.body["n_ctx"])

    def test_a_number_out_of_range_is_a_bad_request_that_names_it(self):
        error = self.refused(openai.BadRequestError, client.chat.completions.create, **{**QUESTION, "temperature": -1})
        self.assertEqual(error.type, "invalid_request_error")
        self.assertEqual(error.param, "temperature")

    def test_a_request_without_messages_is_a_bad_request(self):
        error = self.refused(openai.BadRequestError, client.chat.completions.create, model="any", messages=[])
        self.assertEqual(error.param, "messages")

    def test_a_route_that_does_not_exist_is_not_found(self):
        self.refused(openai.NotFoundError, client.files.list)


if __name__ == "__main__":
    unittest.main(verbosity=2)
