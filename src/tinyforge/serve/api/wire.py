"""What clients send: OpenAI's fields, and a few more. A field that is not listed is refused by name, never ignored.

Fields that this server cannot honour are taken at the values that ask for nothing (``store: false``), because clients
send those of themselves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinyforge.models.sampling import Sampling
from tinyforge.records import Message

NOTHING: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "background": (None, False),
    "best_of": (None, 1),
    "echo": (None, False),
    "include": (None, []),
    "logit_bias": (None, {}),
    "metadata": (None, {}),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, True, False),
    "prediction": (None,),
    "previous_response_id": (None,),
    "conversation": (None,),
    "reasoning": (None, {}),
    "reasoning_effort": (None, "none"),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "suffix": (None, ""),
    "truncation": (None, "disabled"),
    "verbosity": (None,),
    "web_search_options": (None,),
}
"""Fields of OpenAI's that mean nothing to this server, and the values at which they ask for nothing."""

ANSWERED = ("annotations", "audio", "function_call", "phase", "refusal", "tool_calls")
"""What the messages of an answer have besides their text; clients send it back, empty, with the conversation."""

Text = Annotated[str, Field(max_length=4_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class TextPart(_Wire):
    type: Literal["text", "input_text", "output_text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class ChatMessage(_Wire):
    """A message of text. Images, audio and tool calls are refused."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: str | None = Field(None, description="Taken and not shown to the model, whose template has no place for it.")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if name not in ANSWERED or value not in (None, [])}

    def plain(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class JsonSchema(_Wire):
    name: str = "answer"
    description: str | None = None
    schema_: Any = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _complete(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema is given when, and only when, type is json_schema")
        return self


class StreamOptions(_Wire):
    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class _Sampled(_Wire):
    """What decides how tokens are chosen. Greedy unless something asks for chance."""

    model: str = Field(max_length=500, description="A name out of /v1/models.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 is greedy, and what is taken unless top_p, top_k or min_p is given (then 1)."
    )
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1 << 30, description="0 leaves every token in the draw.")
    min_p: float | None = Field(None, ge=0, le=1)
    seed: Seed | None = Field(None, description="The same seed gives the same answer, whatever else is served.")
    user: str | None = Field(None, max_length=500, description="Taken; it changes nothing.")
    truncate: bool = Field(
        False, description="Drop what is oldest of a prompt that is too long, and report it in `tinyforge`."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if not _asks_nothing(cls, name, value)}

    def sampling(self, **more: Any) -> Sampling:
        chance = any(value is not None for value in (self.top_p, self.top_k, self.min_p))
        given = {
            "temperature": self.temperature if self.temperature is not None else float(chance),
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "seed": self.seed,
            **more,
        }
        return Sampling(**{name: value for name, value in given.items() if value is not None})


def _asks_nothing(cls: type[BaseModel], name: str, value: Any) -> bool:
    known = cls.model_fields.get(name)
    if known is not None:  # OpenAI takes null for every field that may be left out
        return value is None and not known.is_required()
    return any(type(value) is type(nothing) and value == nothing for nothing in NOTHING.get(name, ()))


class _Penalised(_Sampled):
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    stop: (
        Annotated[str, Field(min_length=1, max_length=200)]
        | list[Annotated[str, Field(min_length=1, max_length=200)]]
        | None
    ) = Field(None, max_length=200, description="Texts that end the answer and are not part of it.")
    n: int = Field(1, ge=1, le=16, description="So many answers; with a seed, each has one of its own from it on.")
    stream: bool = False
    stream_options: StreamOptions | None = None

    def penalties(self) -> dict[str, Any]:
        stop = self.stop or ()
        return {
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "repetition_penalty": self.repetition_penalty,
            "stop": (stop,) if isinstance(stop, str) else tuple(stop),
        }


class ChatRequest(_Penalised):
    messages: list[ChatMessage] = Field(min_length=1, max_length=2000)
    max_tokens: int | None = Field(None, ge=1, le=1 << 30)
    max_completion_tokens: int | None = Field(None, ge=1, le=1 << 30)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = Field(
        None, max_length=128, description="Handed to the model as text; what it answers comes back as text."
    )
    tool_choice: Literal["auto", "none"] | None = None

    def wanted(self) -> Sampling:
        told = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling(
            max_new_tokens=self.max_completion_tokens or self.max_tokens, logprobs=told, **self.penalties()
        )


class CompletionRequest(_Penalised):
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
    max_tokens: int | None = Field(None, ge=1, le=1 << 30)
    logprobs: int | None = Field(None, ge=0, le=20)

    def wanted(self) -> Sampling:
        return self.sampling(max_new_tokens=self.max_tokens, logprobs=self.logprobs, **self.penalties())


class ResponseText(_Wire):
    class Format(_Wire):
        type: Literal["text", "json_object", "json_schema"]
        name: str | None = None
        description: str | None = None
        schema_: Any = Field(None, alias="schema")
        strict: bool | None = None

    format: Format | None = None
    verbosity: Literal["medium"] | None = None


class InputItem(ChatMessage):
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None


class ResponsesRequest(_Sampled):
    """Stateless: nothing is stored, so ``previous_response_id`` is refused and ``store`` may only be false."""

    input: Text | Annotated[list[InputItem], Field(min_length=1, max_length=2000)]
    instructions: Text | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=1 << 30)
    text: ResponseText | None = None
    stream: bool = False

    def messages(self) -> list[Message]:
        said = [Message("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*said, Message("user", self.input)]
        return [*said, *(item.plain() for item in self.input)]


class EmbeddingsRequest(_Wire):
    model: str = Field(max_length=500)
    input: (
        Annotated[str, Field(min_length=1, max_length=1_000_000)]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1_000_000)]], Field(min_length=1, max_length=2048)
        ]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="May only be what the model has.")
    user: str | None = Field(None, max_length=500)


class PredictRequest(_Wire):
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=256)]
    model: str | None = Field(None, max_length=500, description="May be left out where one model is served.")
    max_tokens: int | None = Field(None, ge=1, le=1 << 30)


class ClassifyRequest(_Wire):
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=256)]
    model: str | None = Field(None, max_length=500, description="May be left out where one classifier is served.")


class AdapterRequest(_Wire):
    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._:-]+$")
    base: str = Field(max_length=500, description="The name of a served model whose base it belongs to.")
    path: str = Field(min_length=1, max_length=4096, description="A folder on the server's machine.")
