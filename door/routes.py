"""The routes of the door: completions, models, health and figures.

    POST /v1/chat/completions    GET /v1/models[/ID]    GET /health    GET /ready    GET /metrics

Whoever asks here waits in the same line as the people on the page: requests go to the same engine.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backend import conversation
from backend.engine import Engine, State, Status, Stream
from backend.prompt.compose import Composer
from door.answering import Completion, gather
from door.asking import Files, make_requests, refuse_inabilities
from door.counts import TYPE, Counts
from door.fetching import Fetcher
from door.intake import Intake, Places
from door.keys import Keys
from door.refusals import Refused, loading
from door.replies import EventStream, explain, unless_gone
from door.schema import Asked, read_request
from door.store import Lease, Store

OWNER = "internvl3-chat"
THREADS = 64  # each begins a request with files, which may have to be fetched
QUICK_BODY = 16_000  # bytes of a request that is read sooner than handed to a thread
GONE = 499  # nobody is there to read it; the log of a proxy calls it so


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes need; `composer` tells the context once it is known."""

    engine: Engine
    composer: Callable[[], Composer | None]
    keys: Keys
    counts: Counts
    fetcher: Fetcher | None = None
    elsewhere: bool = False  # whether the engine is
    intake: Intake = field(default_factory=Intake)
    places: Places = field(default_factory=Places)
    store: Store = field(default_factory=Store)
    since: int = field(default_factory=lambda: int(time.time()))
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="door")
    )

    def close(self) -> None:
        """Let go of the threads and the files."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.store.close()


Answer = Callable[[Desk, Request], Awaitable[Response]]


def make_routes(desk: Desk) -> Starlette:
    """The application of the door."""

    def route(path: str, answer: Answer, method: str = "GET") -> Route:
        async def answer_or_explain(request: Request) -> Response:
            try:
                return await answer(desk, request)
            except ClientDisconnect:
                return Response(status_code=GONE)
            except Exception as error:  # the border: a program gets words, the log the traceback
                return explain(error).response

        return Route(path, answer_or_explain, methods=[method])

    return Starlette(
        routes=[
            route("/v1/chat/completions", complete, "POST"),
            route("/v1/models", list_models),
            route("/v1/models/{name:path}", show_model),
            route("/health", tell_health),
            route("/ready", tell_ready),
            route("/metrics", tell_figures),
        ],
        exception_handlers={HTTPException: _misroute},
    )


async def complete(desk: Desk, request: Request) -> Response:
    """Answer a conversation."""
    session = desk.keys.admit(request)
    body = await desk.intake.read(request)
    lease = Lease(desk.store)
    try:
        asked, completion = await _begin(desk, body, session, lease)
    except BaseException:  # whatever happened, the files are needed no more
        lease.end()
        raise
    finally:
        desk.intake.release(len(body))

    def end() -> None:
        completion.close()
        lease.end()
        desk.places.give_back(len(completion.streams))

    if asked.stream:
        return EventStream(completion, asked.tells_usage, end)
    try:
        return JSONResponse(await unless_gone(request.receive, gather(completion)))
    finally:
        end()


async def list_models(desk: Desk, request: Request) -> Response:
    """The one model there is."""
    desk.keys.admit(request)
    return JSONResponse({"object": "list", "data": [_model(desk)]})


async def show_model(desk: Desk, request: Request) -> Response:
    """The model, by its name."""
    desk.keys.admit(request)
    _require_model(desk.engine.status(), request.path_params["name"])
    return JSONResponse(_model(desk))


async def tell_health(desk: Desk, request: Request) -> Response:
    """Alive, whatever the model does."""
    return JSONResponse({"status": "ok"})


async def tell_ready(desk: Desk, request: Request) -> Response:
    """Whether a request would be answered now."""
    now = desk.engine.status()
    told: dict[str, Any] = {"state": now.state.value, "model": now.model}
    if now.state is State.LOADING:
        told["done"] = round(now.share, 2)
    return JSONResponse(told, 200 if now.state is State.READY else 503)


async def tell_figures(desk: Desk, request: Request) -> Response:
    """The figures for Prometheus."""
    desk.keys.admit(request)
    return Response(desk.counts.write(desk.engine.status()), media_type=TYPE)


async def _begin(desk: Desk, body: bytes, session: str, lease: Lease) -> tuple[Asked, Completion]:
    """Read the request and give it to the engine: here what is quick, in a thread the rest."""
    beside = partial(asyncio.get_running_loop().run_in_executor, desk.pool)
    quick = len(body) <= QUICK_BODY
    asked = read_request(body) if quick else await beside(read_request, body)
    give = partial(_give, desk, asked, session, lease)
    return asked, give() if quick and not asked.shows_files else await beside(give)


def _give(desk: Desk, asked: Asked, session: str, lease: Lease) -> Completion:
    """Keep the request's files, and give it to the engine."""
    now = desk.engine.status()
    _require_ready(now)
    _require_model(now, asked.model)
    fetch = desk.fetcher.fetch if desk.fetcher else None
    files = Files(lease.keep, fetch, most_tiles=_most_tiles(desk))
    requests = make_requests(asked, session, files)
    refuse_inabilities(asked, requests[0], now.unable)
    return Completion(asked.model, _ask(desk, requests))


def _most_tiles(desk: Desk) -> int:
    """What a picture's `detail` may mean; most engines elsewhere refuse more than they cut."""
    known = desk.composer()
    return known.facts.max_tiles if desk.elsewhere and known else conversation.MOST_TILES


def _ask(desk: Desk, requests: Sequence[conversation.Request]) -> tuple[Stream, ...]:
    """All streams, or none and what the engine raised."""
    streams: list[Stream] = []
    desk.places.take(len(requests))
    try:
        for one in requests:
            streams.append(desk.engine.stream(one))
    except BaseException:  # whatever happened, nobody will read these
        for stream in streams:
            stream.close()
        desk.places.give_back(len(requests))
        raise
    return tuple(streams)


def _require_ready(now: Status) -> None:
    if now.state is State.LOADING:
        raise loading(f"{now.model} is still loading ({now.share:.0%} done).")
    if now.state is State.FAILED:
        words = f"{now.model} cannot answer: {now.reason}"
        raise Refused(503, words, None, "model_failed", "server_error")


def _require_model(now: Status, name: str) -> None:
    if name != now.model:
        told = name if len(name) <= 100 else f"{name[:99]}…"
        words = f"The model '{told}' does not exist. This server has '{now.model}'."
        raise Refused(404, words, "model", "model_not_found")


def _model(desk: Desk) -> dict[str, Any]:
    known = desk.composer()
    return {
        "id": desk.engine.status().model,
        "object": "model",
        "created": desk.since,
        "owned_by": OWNER,
        "max_model_len": known.facts.context_length if known else None,
    }


async def _misroute(request: Request, error: Exception) -> Response:
    """A path or a method that there is not."""
    assert isinstance(error, HTTPException)
    words = f"There is no {request.method} {request.url.path} here."
    code = "unknown_url" if error.status_code == 404 else "method_not_allowed"
    return Refused(error.status_code, words, code=code, headers=error.headers).response
