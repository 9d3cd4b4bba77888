"""An engine server that follows a script: `python -m benchmarks.paced_server`.

It speaks OpenAI's chat interface as vLLM does (one token a chunk) and writes words at the pace of
a batching engine, so that what lies before it is all that differs. Prints its port.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

FIRST_S = 0.1  # to the first token
STEP_S = 0.02  # between two: fifty tokens a second for each of those who ask at once
MODEL = "InternVL3-scripted"


async def list_models(request: Request) -> JSONResponse:
    """The one model, in vLLM's words."""
    model = {"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 32_768}
    return JSONResponse({"object": "list", "data": [model]})


async def complete(request: Request) -> StreamingResponse:
    """As many words as are asked for."""
    asked = await request.json()
    return StreamingResponse(_write(asked["max_tokens"]), media_type="text/event-stream")


async def _write(tokens: int) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    due = clock() + FIRST_S
    for number in range(tokens):
        await asyncio.sleep(due - clock())
        due += STEP_S  # a step that came late does not make the next ones late
        yield _event([_choice({"content": f"word{number} "})])
    yield _event([_choice({}, "length")])
    usage = {"prompt_tokens": 60, "completion_tokens": tokens, "total_tokens": 60 + tokens}
    yield _event([], usage=usage)
    yield "data: [DONE]\n\n"


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _event(choices: list[dict[str, object]], **more: object) -> str:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
    return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"


def main() -> None:
    """Serve on a free port until the process is ended."""
    routes = [
        Route("/v1/models", list_models),
        Route("/health", lambda request: JSONResponse({})),
        Route("/v1/chat/completions", complete, methods=["POST"]),
    ]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(Starlette(routes=routes), log_level="error")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
