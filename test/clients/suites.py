"""Clients of OpenAI and Ollama in Python against `serve` with models tiny and bert: python suites.py SUITE URL CALLER.

CALLER is the model that calls tools and fills objects in. A suite chats, streams, embeds, asks for an object in its schema's order, counts tokens and meets errors, each as far as
its client has it.
"""

import json
import sys
from typing import Literal

from pydantic import BaseModel

URL = ""
CALLER = ""
GREETING = "Hello! How can I help you?"
HELLO = [{"role": "user", "content": "hello"}]
# Tokens of the prompt and of the answer.
USAGE = (12, 8)


class Thought(BaseModel):
    """Longer names first, which PostgreSQL's jsonb would turn round."""

    reasoning: Literal["because", "since"]
    answer: Literal["yes", "no"]


def weather(city: Literal["Oslo", "Rome"], days: Literal[1, 2]) -> str:
    """Weather of a city."""
    return f"{city} {days}"


# The model is too small to call anything by itself, so every suite says that it has to. Its template shows no tools.
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def called(name, arguments):
    same(name, "weather")
    same(weather(**arguments).split()[0] in ("Oslo", "Rome"), True)


def same(found, expected):
    assert found == expected, f"got {found!r}, expected {expected!r}"


def close(found, expected):
    same((len(found), len(expected)), (64, 64))
    assert max(abs(a - b) for a, b in zip(found, expected)) < 1e-6, "two clients embed differently"


def in_order(text):
    Thought.model_validate_json(text)
    same(text.index('"reasoning"') < text.index('"answer"') and text[0] == "{", True)


def fails(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), f"{words!r} is not in {error}"
        return
    raise AssertionError(f"nothing was wrong where {words!r} was expected")


def openai():
    from openai import BadRequestError, NotFoundError, OpenAI

    client = OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    same({model.id for model in client.models.list()}, {"tiny", "bert", CALLER})
    ask = {"model": "tiny", "messages": HELLO, "temperature": 0}
    whole = client.chat.completions.create(**ask)
    same(whole.choices[0].message.content, GREETING)
    same((whole.usage.prompt_tokens, whole.usage.completion_tokens), USAGE)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    same("".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices), GREETING)
    same((chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens), USAGE)
    of_caller = {"model": CALLER, "messages": HELLO, "temperature": 0}
    parsed = client.chat.completions.parse(**of_caller, response_format=Thought)
    in_order(parsed.choices[0].message.content)
    same(type(parsed.choices[0].message.parsed), Thought)
    forced = client.chat.completions.create(**of_caller, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    same(forced.choices[0].finish_reason, "tool_calls")
    call = forced.choices[0].message.tool_calls[0]
    called(call.function.name, json.loads(call.function.arguments))
    answered = [*HELLO, forced.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "snow"}]
    same(client.chat.completions.create(model=CALLER, messages=answered, max_tokens=5).usage.prompt_tokens > USAGE[0], True)
    # The client asks for base64 by itself.
    packed = client.embeddings.create(model="bert", input=["hello", "you"])
    close(packed.data[0].embedding, client.embeddings.create(model="bert", input="hello", encoding_format="float").data[0].embedding)
    same(packed.usage.prompt_tokens, 6)
    typo = [{"role": "user", "contents": "typo"}]
    fails(BadRequestError, "must have a content", lambda: client.chat.completions.create(model="tiny", messages=typo))
    fails(NotFoundError, "nobody", lambda: client.chat.completions.create(model="nobody", messages=HELLO))


def ollama():
    from ollama import Client, ResponseError

    client = Client(host=URL)
    same({model.model for model in client.list().models}, {"tiny", "bert", CALLER})
    options = {"temperature": 0}
    whole = client.chat("tiny:latest", HELLO, options=options)
    same(whole.message.content, GREETING)
    same((whole.prompt_eval_count, whole.eval_count), USAGE)
    parts = list(client.chat("tiny", HELLO, options=options, stream=True))
    same("".join(part.message.content for part in parts), GREETING)
    same((parts[-1].prompt_eval_count, parts[-1].eval_count, parts[-1].done_reason), (*USAGE, "stop"))
    same(client.generate("tiny", "hello", options=options).response, GREETING)
    in_order(client.chat(CALLER, HELLO, format=Thought.model_json_schema()).message.content)
    cut = client.embed("bert", ["word " * 3000, "hello"], truncate=True)
    same((len(cut.embeddings[0]), cut.prompt_eval_count), (64, 256 + 3))
    fails(ResponseError, "truncate", lambda: client.embed("bert", "word " * 3000, truncate=False))
    close(client.embeddings("bert", "hello").embedding, client.embed("bert", "hello").embeddings[0])
    same(client.show("bert").capabilities, ["embedding"])
    fails(ResponseError, "nobody", lambda: client.chat("nobody", HELLO))


def langchain():
    from langchain_ollama import ChatOllama, OllamaEmbeddings
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from openai import NotFoundError

    to_openai = {"base_url": f"{URL}/v1", "api_key": "none", "max_retries": 0}
    of_openai = ChatOpenAI(**to_openai, model="tiny", temperature=0, stream_usage=True)
    of_ollama = ChatOllama(base_url=URL, model="tiny", temperature=0)
    for chat in (of_openai, of_ollama):
        whole = chat.invoke("hello")
        same(whole.content, GREETING)
        same((whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]), USAGE)
        streamed = None
        for chunk in chat.stream("hello"):
            streamed = chunk if streamed is None else streamed + chunk
        same(streamed.content, GREETING)
        same((streamed.usage_metadata["input_tokens"], streamed.usage_metadata["output_tokens"]), USAGE)
    caller = ChatOpenAI(**to_openai, model=CALLER, temperature=0)
    for chat in (caller, ChatOllama(base_url=URL, model=CALLER, temperature=0)):
        found = chat.with_structured_output(Thought, method="json_schema", include_raw=True).invoke("hello")
        same(type(found["parsed"]), Thought)
        in_order(found["raw"].content)
    found = caller.with_structured_output(Thought, method="function_calling", include_raw=True).invoke("hello")
    same(type(found["parsed"]), Thought)
    bound = caller.bind_tools([weather], tool_choice="any", parallel_tool_calls=False)
    streamed = None
    for chunk in bound.stream("hello"):
        streamed = chunk if streamed is None else streamed + chunk
    for message in (bound.invoke("hello"), streamed):
        same(len(message.tool_calls), 1)
        called(message.tool_calls[0]["name"], message.tool_calls[0]["args"])
    # Its default sends ids of OpenAI's own tokens, which mean nothing to another vocabulary.
    embeddings = OpenAIEmbeddings(**to_openai, model="bert", check_embedding_ctx_length=False)
    close(embeddings.embed_query("hello"), OllamaEmbeddings(base_url=URL, model="bert").embed_query("hello"))
    fails(NotFoundError, "nobody", lambda: ChatOpenAI(**to_openai, model="nobody").invoke("hello"))


def llamaindex():
    from llama_index.core.llms import ChatMessage
    from llama_index.core.program import FunctionCallingProgram
    from llama_index.core.tools import FunctionTool
    from llama_index.embeddings.ollama import OllamaEmbedding
    from llama_index.llms.ollama import Ollama
    from llama_index.llms.openai_like import OpenAILike
    from openai import NotFoundError

    to_openai = {"api_base": f"{URL}/v1", "api_key": "none", "is_chat_model": True, "max_retries": 0}
    hello = [ChatMessage(role="user", content="hello")]
    like = OpenAILike(model="tiny", temperature=0, **to_openai)
    native = Ollama(model="tiny", base_url=URL, temperature=0)
    for client in (like, native):
        same(client.complete("hello").text, GREETING)
        same("".join(part.delta or "" for part in client.stream_chat(hello)), GREETING)
    usage = like.chat(hello).raw.usage
    same((usage.prompt_tokens, usage.completion_tokens), USAGE)
    raw = native.chat(hello).raw
    same((raw["prompt_eval_count"], raw["eval_count"]), USAGE)
    # This client asks Ollama for any object, not for one of a schema.
    either = Ollama(model="tiny", base_url=URL, temperature=0, json_mode=True, additional_kwargs={"num_predict": 40})
    json.loads(either.chat(hello).message.content)
    schema = {"type": "json_schema", "json_schema": {"name": "thought", "schema": Thought.model_json_schema()}}
    in_order(like.chat(hello, response_format=schema).message.content)
    functions = OpenAILike(model=CALLER, temperature=0, is_function_calling_model=True, **to_openai)
    tool = FunctionTool.from_defaults(weather)
    [call] = functions.get_tool_calls_from_response(functions.chat_with_tools([tool], user_msg="hello", tool_choice="weather"))
    called(call.tool_name, call.tool_kwargs)
    program = FunctionCallingProgram.from_defaults(Thought, "hello", llm=functions)
    same(type(program(llm_kwargs={"tool_choice": "Thought"})), Thought)
    same(len(OllamaEmbedding(model_name="bert", base_url=URL).get_text_embedding("hello")), 64)
    fails(NotFoundError, "nobody", lambda: OpenAILike(model="nobody", **to_openai).chat(hello))


def litellm():
    import litellm

    to_openai = {"api_base": f"{URL}/v1", "api_key": "none"}
    for model, place in (("openai/tiny", to_openai), ("ollama_chat/tiny", {"api_base": URL})):
        ask = {**place, "model": model, "temperature": 0, "messages": HELLO}
        whole = litellm.completion(**ask)
        same(whole.choices[0].message.content, GREETING)
        same((whole.usage.prompt_tokens, whole.usage.completion_tokens), USAGE)
        chunks = litellm.completion(**ask, stream=True)
        same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), GREETING)
        in_order(litellm.completion(**ask, response_format=Thought).choices[0].message.content)
    forced = litellm.completion(**to_openai, model=f"openai/{CALLER}", messages=HELLO, tools=[WEATHER], tool_choice="required")
    same(forced.choices[0].finish_reason, "tool_calls")
    call = forced.choices[0].message.tool_calls[0]
    called(call.function.name, json.loads(call.function.arguments))
    embedded = litellm.embedding("openai/bert", **to_openai, input=["hello"], encoding_format="float")
    close(embedded.data[0]["embedding"], litellm.embedding("ollama/bert", api_base=URL, input=["hello"]).data[0]["embedding"])
    fails(
        litellm.NotFoundError, "nobody", lambda: litellm.completion("openai/nobody", **to_openai, messages=HELLO, max_retries=0)
    )


def instructor():
    import instructor as library
    from instructor.core import InstructorRetryException
    from openai import OpenAI

    ask = {"messages": HELLO, "response_model": Thought, "max_retries": 0, "temperature": 0, "max_tokens": 60}
    plain = OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    strict = library.from_openai(plain, mode=library.Mode.JSON_SCHEMA).chat.completions
    found, whole = strict.create_with_completion(model=CALLER, **ask)
    # A class of its own below the one it was given.
    same(isinstance(found, Thought), True)
    in_order(whole.choices[0].message.content)
    same(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
    *_, last = strict.create_partial(model=CALLER, **ask)
    same(last.model_dump(), found.model_dump())
    tools = library.from_openai(plain, mode=library.Mode.TOOLS).chat.completions
    same(isinstance(tools.create(model=CALLER, **ask), Thought), True)
    *_, last = tools.create_partial(model=CALLER, **ask)
    Thought.model_validate(last.model_dump())
    # Mode JSON puts the schema into the prompt and asks for any object, which so small a model does not fill as it says.
    loose = library.from_openai(plain, mode=library.Mode.JSON).chat.completions
    fails(InstructorRetryException, "validation error", lambda: loose.create(model="tiny", **ask))
    fails(Exception, "nobody", lambda: strict.create(model="nobody", **ask))


def pydantic_ai():
    from pydantic_ai import Agent
    from pydantic_ai.exceptions import ModelHTTPError
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def model(name):
        return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="none"))

    settings = {"temperature": 0}
    whole = Agent(model("tiny"), model_settings=settings).run_sync("hello")
    same(whole.output, GREETING)
    same((whole.usage().input_tokens, whole.usage().output_tokens), USAGE)
    # An object is the arguments of a tool that has to be called.
    same(type(Agent(model(CALLER), output_type=Thought, model_settings=settings).run_sync("hello").output), Thought)
    fails(ModelHTTPError, "nobody", lambda: Agent(model("nobody")).run_sync("hello"))


if __name__ == "__main__":
    URL, CALLER = sys.argv[2:]
    globals()[sys.argv[1]]()
