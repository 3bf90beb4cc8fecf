from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message

from holdfast_workers.scripted_model import ScriptedModel, Source, running

Tools = Mapping[str, Callable[[dict[str, Any]], Any]]


class Talk:
    """A minimal agent over the real client: offers tools, runs them, keeps the messages."""

    def __init__(self, model: ScriptedModel, client: AsyncAnthropic) -> None:
        self.model = model
        self.client = client
        self.messages: list[Any] = []

    def says(self, text: str) -> "Talk":
        self.messages.append({"role": "user", "content": text})
        return self

    async def turn(self, tools: Sequence[str] = (), **options: Any) -> Message:
        offered = [{"name": name, "input_schema": {"type": "object"}} for name in tools]
        options = {"model": "claude-test", "max_tokens": 4000, **options}
        if offered:
            options.setdefault("tools", offered)
        async with self.client.messages.stream(messages=self.messages, **options) as stream:
            message = await stream.get_final_message()
        self.messages.append(
            {"role": "assistant", "content": message.model_dump(exclude_unset=True, warnings=False)["content"]}
        )
        return message

    def returns(self, *results: str | Exception) -> "Talk":
        """One result per call of the last turn; an exception is an error result."""
        calls = [block for block in self.messages[-1]["content"] if block["type"] == "tool_use"]
        content = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": str(result)}
            | ({"is_error": True} if isinstance(result, Exception) else {})
            for call, result in zip(calls, results, strict=True)
        ]
        self.messages.append({"role": "user", "content": content})
        return self


class Play(Protocol):
    def __call__(self, *scenarios: Source, **options: Any) -> AbstractAsyncContextManager[Talk]: ...


@pytest.fixture(scope="session")
async def client() -> AsyncIterator[AsyncAnthropic]:
    """One connection pool for all tests: making one costs 50 ms."""
    async with AsyncAnthropic(base_url="http://127.0.0.1:1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def play(client: AsyncAnthropic) -> Play:
    """`async with play(yaml) as talk`: a scripted model and a conversation with it through the real client."""

    @asynccontextmanager
    async def playing(*scenarios: Source, **options: Any) -> AsyncIterator[Talk]:
        async with running(*scenarios, **options) as model:
            yield Talk(model, client.with_options(base_url=model.url))

    return playing


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")
