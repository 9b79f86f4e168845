"""The HTTP side: what is asked, what is refused, and how it is answered. Every error is JSON, {"error": a sentence}."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import PurePosixPath
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from visiontl.errors import ConfigError, clean
from visiontl.outlet import say
from visiontl.serving.controls import put, require_no_files
from visiontl.serving.limits import Limits
from visiontl.serving.line import Full, Line, Waiting
from visiontl.serving.metrics import TYPE, Metrics

STATUS = {"picture": 422, "options": 400, "model": 500, "late": 504, "busy": 503}
RAW = ("application/octet-stream", "image/", "audio/", "video/")
HOW = "send a picture as the body (Content-Type: image/jpeg), or one or several as multipart/form-data"
LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
READ = 4  # times as much as is taken may be sent before the connection is closed
GONE = 499  # of a request whose sender went away, in the metrics alone
MORE = 4  # requests that may be read at once, for each picture that may wait

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what is wrong with a form is answered, not logged


class Refused(Exception):
    def __init__(self, status: int, said: str):
        super().__init__(said)
        self.status = status


def app_of(line: Line, settled: Mapping[str, Any], closed: bool, local: bool) -> FastAPI:
    """settled: options of every request. closed: requests bring none. local: answer only who calls this machine by a
    name of its own, so that no page of the web, under a name that leads here, is answered."""
    app = FastAPI(title="visiontl", docs_url=None, redoc_url=None, openapi_url=None)
    limits, metrics, reading = line.limits, line.metrics, Counted()

    @app.get("/")
    def about() -> dict[str, Any]:
        return {**line.about, "settled": dict(settled), "limits": vars(limits), "predict": f"POST /predict: {HOW}"}

    @app.get("/health")
    def health() -> JSONResponse:
        ready = line.ready()
        return JSONResponse({"status": "ready" if ready else "loading"}, 200 if ready else 503)

    @app.get("/metrics")
    def numbers() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(line.waiting(), line.ready()), media_type=TYPE)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        began = time.monotonic()
        if reading.now >= MORE * limits.waiting:
            raise Refused(503, "too many requests are being read; try again in a second")
        with reading:
            options = {**settled, **options_of(request, closed, line.named)}
            uploads = await within(uploads_of(request, limits), limits.seconds)
        return await answered(request, line, uploads, options, began + limits.seconds)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return in_words(error.status, str(error))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> JSONResponse:
        said = {404: "there is nothing at this address; GET / says what there is", 405: "this address takes no such "
                "method; GET / says what there is"}  # fmt: skip
        return in_words(error.status_code, said.get(error.status_code, str(error.detail)))

    app.add_middleware(Watched, metrics=metrics, local=local)
    return app


class Counted:
    """How many are within the block."""

    now = 0

    def __enter__(self) -> None:
        self.now += 1

    def __exit__(self, *_: object) -> None:
        self.now -= 1


class Watched:
    """Counts requests, refuses foreign names of the host, and answers what nobody foresaw, in words."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        metrics: Metrics,
        local: bool,
        headers: Mapping[str, str] | None = None,
    ):
        """headers: of every answer, beside its own."""
        self.app, self.metrics, self.local = app, metrics, local
        self.headers = [(name.lower().encode(), text.encode()) for name, text in (headers or {}).items()]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.monotonic(), 0

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            if self.headers and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self.headers]}
            await send(message)

        try:
            if self.local and host_of(scope) not in LOCAL:
                said = "this server answers as localhost and 127.0.0.1 alone; --host makes it answer others"
                await in_words(421, said)(scope, receive, watched)
            else:
                await self.app(scope, receive, watched)
        except ClientDisconnect:  # in the middle of what it sent
            status = status or GONE
        except Exception:
            say(traceback.format_exc(), sys.stderr)
            if not status:
                await in_words(500, "the server failed; its own output says why")(scope, receive, watched)
        finally:
            self.metrics.request(status, time.monotonic() - began)


def host_of(scope: Mapping[str, Any]) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host


def in_words(status: int, said: str) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else {}
    if status in (408, 411, 413, 421):
        headers["Connection"] = "close"  # what else comes on this connection is not read
    return JSONResponse({"error": said}, status, headers)


def options_of(request: Request, closed: bool, named: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """?threshold=0.3&label.top_k=2, each value in JSON, or a text. named: as `require_no_files` takes it."""
    given = request.query_params.multi_items()
    if given and closed:
        raise Refused(400, "this server takes no options")
    if len(given) > 32:
        raise Refused(400, f"{len(given)} options; at most 32 were expected")
    found: dict[str, Any] = {}
    for name, text in given:
        try:
            put(found, name, json.loads(text, parse_constant=no_number))
        except (ValueError, RecursionError):
            put(found, name, text)
    try:
        require_no_files(found, named)
    except ConfigError as error:
        raise Refused(400, str(error)) from None
    return found


def no_number(text: str) -> float:
    raise ValueError(text)


async def within(reading: Awaitable[Any], seconds: float) -> Any:
    try:
        return await asyncio.wait_for(reading, seconds)
    except TimeoutError:
        raise Refused(408, f"the request did not come whole within {seconds:g} s") from None


async def uploads_of(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    """(name, content) of each picture. Raises Refused."""
    stated = request.headers.get("content-length", "")
    size, most = int(stated[:20]) if stated.isdecimal() else 0, f"at most {limits.upload:,} bytes are taken"
    if size > READ * limits.upload:
        raise Refused(413, f"{size:,} bytes; {most}")
    content, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > READ * limits.upload:
            break
        if size <= limits.upload:
            content += chunk
        else:
            content.clear()
    if size > limits.upload:  # read to its end, for many clients look for an answer no earlier
        raise Refused(413, f"{size:,} bytes; {most}")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await parts_of(request, bytes(content), limits)
    elif kind.startswith(RAW) or not kind:
        found = [("", bytes(content))]
    else:
        raise Refused(415, f"Content-Type {clean(kind)[:60]!r} is not taken; {HOW}")
    if not found or not any(content for _, content in found):
        raise Refused(400, f"no picture came; {HOW}")
    return found


async def parts_of(request: Request, content: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    async def once() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    try:
        form = await Request(request.scope, once).form(
            max_files=limits.pictures, max_fields=limits.pictures, max_part_size=limits.upload
        )
    except HTTPException as error:  # how starlette names what is wrong with a form
        raise Refused(400, f"the form cannot be read ({clean(str(error.detail))[:200]}); {HOW}") from None
    except Exception as error:  # of the parser, which raises many kinds
        raise Refused(400, f"the form cannot be read ({type(error).__name__}); {HOW}") from None
    try:
        for name, text in form.multi_items():
            if isinstance(text, str) and text:  # passed over it would be an option that is not followed
                said = f"field {clean(name)[:40]!r} of the form is a text"
                raise Refused(
                    400, f"{said}; options stand behind the address (?top_k=3), and a file is sent as a=@photo.jpg"
                )
        return [(one.filename or "", await one.read()) for _, one in form.multi_items() if isinstance(one, UploadFile)]
    finally:
        await form.close()


async def answered(
    request: Request, line: Line, uploads: list[tuple[str, bytes]], options: Mapping[str, Any], until: float
) -> Response:
    """A picture's answer, or those of several in their order. Raises Refused for a picture that has none; of several
    each says its own."""
    waiting = [Waiting(suffix_of(name), content, options, until) for name, content in uploads]
    try:
        for one in waiting:
            line.put(one)
    except Full:
        for one in waiting:
            one.answer.cancel()
        raise Refused(503, "too many pictures wait already; try again in a second") from None
    try:
        found = await asyncio.wait_for(
            asyncio.gather(*(asyncio.wrap_future(one.answer) for one in waiting)), max(0.01, until - time.monotonic())
        )
    except TimeoutError:
        line.metrics.pictures["late"] += len(waiting)
        raise Refused(504, f"no answer within {line.limits.seconds:g} s") from None
    for one in found:
        line.metrics.pictures[one.get("kind", "answered")] += 1
    if len(found) > 1:
        named = [{"file": shown(name), **told(one)} for (name, _), one in zip(uploads, found, strict=True)]
        return JSONResponse({"predictions": named})
    [one] = found
    if "error" in one:
        raise Refused(STATUS[one["kind"]], one["error"])
    if wants_picture(request):
        return as_picture(one["prediction"])
    return JSONResponse(one["prediction"])


def told(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"error": answer["error"]} if "error" in answer else dict(answer["prediction"])


def wants_picture(request: Request) -> bool:
    return request.headers.get("accept", "").strip().lower().startswith("image/png")


def as_picture(prediction: Mapping[str, Any]) -> Response:
    """The first picture of an answer, by itself."""
    found = next(pictures_in(prediction), None)
    if found is None:
        raise Refused(406, "the answer holds no picture; leave Accept: image/png away for JSON")
    return Response(base64.b64decode(found), media_type="image/png")


def pictures_in(prediction: Mapping[str, Any]) -> Iterator[str]:
    """In base64, those of several tasks too."""
    for value in prediction.values():
        if isinstance(value, Mapping):
            inner = cast(Mapping[str, Any], value)
            if isinstance(inner.get("png"), str):
                yield inner["png"]
            else:
                yield from pictures_in(inner)


def suffix_of(name: str) -> str:
    """By which a task that opens other files than pictures tells them."""
    return PurePosixPath(name.replace("\\", "/")).suffix.lower()[:10]


def shown(name: str) -> str:
    return clean(name.replace("\\", "/").rpartition("/")[2])[:200]
