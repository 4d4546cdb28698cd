"""FastAPI + httpx as they are usually put together: one shared client, bodies streamed both ways.

Run by uvicorn with uvloop and httptools, one worker; UPSTREAM (host:port) is in the environment.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

UPSTREAM = f"http://{os.environ['UPSTREAM']}"
NOT_FORWARDED = {b"connection", b"keep-alive", b"transfer-encoding", b"host"}
LIMITS = httpx.Limits(max_connections=4096, max_keepalive_connections=4096, keepalive_expiry=300)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=UPSTREAM, limits=LIMITS, timeout=60) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def forward(request: Request) -> StreamingResponse:
    client: httpx.AsyncClient = request.app.state.client
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    outgoing = client.build_request(
        request.method,
        httpx.URL(path=request.url.path, query=request.url.query.encode()),
        headers=[pair for pair in request.headers.raw if pair[0] not in NOT_FORWARDED],
        content=request.stream() if has_body else None,
    )
    answer = await client.send(outgoing, stream=True)
    response = StreamingResponse(
        answer.aiter_raw(),
        status_code=answer.status_code,
        background=BackgroundTask(answer.aclose),
    )
    response.raw_headers = [
        (name.lower(), value)
        for name, value in answer.headers.raw
        if name.lower() not in NOT_FORWARDED
    ]
    return response
