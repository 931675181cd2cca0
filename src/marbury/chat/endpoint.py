"""A model behind an OpenAI-compatible endpoint, through the official client.

The client repeats what failed before the reply began (`retries`); a reply that breaks off later is an error here,
because its pieces are already with the reader.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import cast
from urllib.parse import urlsplit

import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    Omit,
    OpenAIError,
    omit,
)
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from marbury.errors import ModelError, SettingsError
from marbury.records import Finish, Message, Piece

OPENAI = "https://api.openai.com/v1"
_FINISH: dict[str, Finish] = {"length": "length", "content_filter": "content_filter"}
_NO_END = "the reply broke off, or is none in OpenAI's streaming format: ask again, or check the address"
_NEXT_STEP = {
    400: "the endpoint does not accept the request: compare the model's limits with max_tokens and temperature",
    401: "it wants another key: put the right one into the environment variable that key_env names",
    403: "the key may not use this model: ask the endpoint's owner, or take another model",
    404: "no such model or path: check the model's name, and that the address ends in /v1",
    429: "too many requests or no credit left: wait, or lower concurrency",
}


class Endpoint:
    """A `ChatModel` over HTTP.

    `key_env` names the environment variable that holds the key. Without it, only api.openai.com gets a key
    (OPENAI_API_KEY): a key is never sent to an address that it was not meant for.
    `timeout_s` is the longest silence, in seconds: before the reply begins and between two pieces.
    """

    def __init__(
        self,
        model: str,
        base_url: str = OPENAI,
        *,
        key_env: str = "",
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float = 120.0,
        retries: int = 4,
    ) -> None:
        self._model = model
        self.base_url = base_url
        self._openai = _is_openai(base_url)
        self._key = _key(base_url, key_env or ("OPENAI_API_KEY" if self._openai else ""))
        self._temperature: float | Omit = omit if temperature is None else temperature
        self._max_tokens: int | Omit = omit if max_tokens is None else max_tokens
        self._timeout_s = timeout_s
        self._retries = retries
        self._open: tuple[asyncio.AbstractEventLoop, AsyncOpenAI] | None = None

    @property
    def name(self) -> str:
        """The model's name at its endpoint."""
        return self._model

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        """The reply as it grows.

        Raises:
            ModelError: the endpoint refused, failed, was silent for too long, or broke off (says what to do).
        """
        finish: Finish | None = None
        began = False
        try:
            async with await self._ask(messages) as chunks:
                began = True
                async for chunk in chunks:
                    text, ended = _read(chunk)
                    finish = ended or finish
                    if text:
                        yield Piece(text)
        except (OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise ModelError(f"{self._model} at {self.base_url}: {self._explain(error, began)}") from error
        if finish is None:
            raise ModelError(f"{self._model} at {self.base_url}: {_NO_END}")
        yield Piece(finish=finish)

    async def aclose(self) -> None:
        """Close the connections; the next question opens new ones."""
        if self._open:
            _, client = self._open
            self._open = None
            await client.close()

    async def _ask(self, messages: Sequence[Message]) -> AsyncStream[ChatCompletionChunk]:
        return await self._client().chat.completions.create(
            model=self._model,
            messages=[cast(ChatCompletionMessageParam, {"role": m.role, "content": m.content}) for m in messages],
            stream=True,
            temperature=self._temperature,
            max_tokens=self._max_tokens,
        )

    def _client(self) -> AsyncOpenAI:
        """The client of the running event loop: connections cannot move to another loop."""
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop:
            client = AsyncOpenAI(
                api_key=self._key, base_url=self.base_url, timeout=self._timeout_s, max_retries=self._retries
            )
            if not self._openai:  # the client takes these from the environment, for any address
                client.organization = client.project = None
            self._open = (loop, client)
        return self._open[1]

    def _explain(self, error: Exception, began: bool) -> str:
        match error:
            case APIStatusError():
                busy = "the endpoint is in trouble: try again later, or look at its logs"
                return f"HTTP {error.status_code}: {error.message}; {_NEXT_STEP.get(error.status_code, busy)}"
            case APITimeoutError() | httpx2.TimeoutException():
                return f"silent for {self._timeout_s:g} s: raise timeout_s, or lower concurrency"
            case APIConnectionError() | httpx2.HTTPError() if began:
                return f"the connection broke off during the reply ({error}): ask again, or look at its logs"
            case APIConnectionError() | httpx2.HTTPError() | httpx2.InvalidURL():
                return f"no connection ({error.__cause__ or error}): check the address, and that the endpoint runs"
            case APIError():
                return f"it broke the reply off with an error: {error.message}"
            case _:
                return f"its answer is not in OpenAI's streaming format ({error}): check the address"


def _read(chunk: ChatCompletionChunk) -> tuple[str, Finish | None]:
    """The text of a chunk and whether the reply ends with it. Only the first choice is asked for."""
    if not isinstance(chunk, ChatCompletionChunk):  # the client does not check what endpoints send
        raise ValueError(f"a chunk is {chunk!r}")
    if not chunk.choices:  # the row with the token counts
        return "", None
    choice = chunk.choices[0]
    text = (choice.delta.content or "") + (choice.delta.refusal or "") if choice.delta else ""
    return text, _FINISH.get(choice.finish_reason, "stop") if choice.finish_reason else None


def _is_openai(base_url: str) -> bool:
    try:
        return urlsplit(base_url).hostname == urlsplit(OPENAI).hostname
    except ValueError as error:
        raise SettingsError(f"{base_url!r} is not an address ({error}): write http://HOST/v1") from error


def _key(base_url: str, name: str) -> str:
    if not name:
        return "no-key"  # the client insists on one; local servers do not look at it
    key = os.environ.get(name, "").strip()
    if not key:
        raise SettingsError(f"no key for {base_url}: put it into the environment variable {name}")
    return key
