"""The request of `POST /v1/chat/completions`, field by field, as OpenAI's reference has it.

With LMDeploy's additions (`top_k`, `repetition_penalty`, `detail` and `max_dynamic_patch` of a
picture, which its docs/en/llm/api_server.md and multi_modal/internvl.md name) and vLLM's
`media_io_kwargs`. Types are strict: `"0.7"` is no number. It knows what is well formed, not what
an engine can do.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from door.refusals import Refused

MOST_CHOICES = 8  # answers to one request; each takes a place in the queue
HIDDEN = "~"  # begins the tags by which pydantic names the members of a union

# Fields that change nothing here: they name the client, or choose what there is no choice of.
IDLE = frozenset({
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention",
    "reasoning_effort", "safety_identifier", "service_tier", "session_id",
    "skip_special_tokens", "store", "user", "verbosity",
})  # fmt: skip
# Fields that would change the answer, with the values that do not.
UNABLE: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none"),
    "functions": (None, []),
    "ignore_eos": (None, False),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "min_p": (None, 0),
    "modalities": (None, ["text"]),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "web_search_options": (None,),
}


class Model(BaseModel):
    """An object whose further fields, as vLLM's `uuid`, are passed over."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Words(Model):
    """A part of a message: text."""

    type: Literal["text"]
    text: str


class PictureAddress(Model):
    """Where a picture is, and into how many tiles at most it is cut."""

    url: str
    detail: Literal["auto", "low", "medium", "high"] | None = None
    max_dynamic_patch: int | None = None


class Picture(Model):
    """A part of a message: a picture."""

    type: Literal["image_url"]
    image_url: PictureAddress


class VideoAddress(Model):
    """Where a video is."""

    url: str


class Video(Model):
    """A part of a message: a video."""

    type: Literal["video_url"]
    video_url: VideoAddress


def _kind_of_part(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return f"{HIDDEN}{kind}" if isinstance(kind, str) else None


Part = Annotated[
    Annotated[Words, Tag("~text")]
    | Annotated[Picture, Tag("~image_url")]
    | Annotated[Video, Tag("~video_url")],
    Discriminator(
        _kind_of_part,
        custom_error_type="part",
        custom_error_message="There is no such part: choose from text, image_url, video_url",
    ),
]


def _is_list(value: Any) -> str:
    return "~several" if isinstance(value, list) else "~one"


Content = Annotated[
    Annotated[str, Tag("~one")] | Annotated[list[Part], Tag("~several")], Discriminator(_is_list)
]
Stop = Annotated[
    Annotated[str, Tag("~one")] | Annotated[list[str], Tag("~several")], Discriminator(_is_list)
]


class Message(Model):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None
    tool_calls: list[Any] | None = Field(default=None, max_length=0)

    @property
    def parts(self) -> list[Words | Picture | Video]:
        """The content in parts; a plain text is one."""
        if isinstance(self.content, str):
            return [Words(type="text", text=self.content)]
        return self.content or []


class StreamOptions(Model):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None


class VideoChoices(Model):
    """How many frames of a video are seen."""

    num_frames: int | None = None


class MediaChoices(Model):
    """vLLM's choices for files."""

    video: VideoChoices | None = None


class Asked(BaseModel):
    """A request for completions of a chat."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: Stop | None = None
    media_io_kwargs: MediaChoices | None = None

    @property
    def shows_files(self) -> bool:
        """Whether there is a picture or a video in any message."""
        return any(not isinstance(part, Words) for one in self.messages for part in one.parts)

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return bool(self.stream_options and self.stream_options.include_usage)


def read_request(body: bytes) -> Asked:
    """The request in `body`; raises `Refused` with the name of the field that is wrong."""
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error) from None
    for name, value in (asked.model_extra or {}).items():
        _check_further(name, value)
    if asked.stream_options is not None and not asked.stream:
        raise Refused(
            400,
            "'stream_options' goes with 'stream': true only.",
            "stream_options",
            "invalid_value",
        )
    return asked


def _explain(error: ValidationError) -> Refused:
    """The first thing that is wrong, in OpenAI's words as far as it has some."""
    first = error.errors(include_url=False, include_input=False)[0]
    param = _path_of(first["loc"])
    if first["type"] == "json_invalid":
        return Refused(400, f"The body is no JSON ({first['msg']}).", code="invalid_json")
    if first["type"] == "missing":
        return Refused(
            400, f"Missing required parameter: '{param}'.", param, "missing_required_parameter"
        )
    if not param:
        return Refused(400, "The body must be a JSON object.", code="invalid_type")
    code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    return Refused(400, f"Invalid '{param}': {first['msg']}.", param, code)


def _path_of(location: tuple[int | str, ...]) -> str:
    """As `messages[0].content[1].image_url.url`."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith(HIDDEN):
            path += f".{step}" if path else step
    return path


def _check_further(name: str, value: Any) -> None:
    """Raise `Refused` for a field that is not known, or that asks for what there is not."""
    if name in UNABLE:
        if value not in UNABLE[name]:
            raise Refused(400, f"'{name}' is not supported here.", name, "unsupported_parameter")
    elif name not in IDLE:
        told = name if len(name) <= 64 else f"{name[:63]}…"
        raise Refused(
            400, f"Unrecognized request argument supplied: {told}", told, "unknown_parameter"
        )
