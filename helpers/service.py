"""A model behind HTTP: checked before it starts, guarded while it runs.

`pack` writes a model and its card into one file, `load` takes only the file that was
released, `create_app` puts it behind FastAPI, `python -m helpers.service` serves it on
this computer. No image, key or name reaches a log line or an error.

Introduced in: challenges/model_as_a_service
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import logging
import math
import os
import secrets
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, FailFast, Field
from starlette.exceptions import HTTPException

SIDE, MOST_IMAGES, MOST_BYTES = 28, 64, 2**19
GRACE = 10  # seconds to finish what has begun
REFERENCE = (np.arange(SIDE**2) % 256).reshape(SIDE, SIDE)  # an image for self-tests
NO_JSON = "the body is not JSON in UTF-8, or nested too deep"
OPEN = {"GET /health", "GET /metrics", "GET /openapi.json"}  # without a key
log = logging.getLogger("helpers.service")


def _array(item, low, high):  # which stops at its first fault
    return Annotated[list[item], FailFast(), Field(min_length=low, max_length=high)]


# a whole number, also if it is written 3.0; neither "3" nor true
Gray = Annotated[float, Field(strict=True, ge=0, le=255, multiple_of=1)]
Image = _array(_array(Gray, SIDE, SIDE), SIDE, SIDE)


class One(BaseModel, extra="forbid"):
    """One image, rows from the top, 0 black to 255 white."""

    pixels: Image = Field(examples=[REFERENCE.tolist()])


class Many(BaseModel, extra="forbid"):
    """Images, answered in their order."""

    images: _array(Image, 1, MOST_IMAGES) = Field(examples=[[REFERENCE.tolist()] * 2])


class Finding(BaseModel):
    score: float = Field(ge=0, le=1, description="higher: more like pneumonia")
    alarm: bool = Field(description="true if the score reaches the threshold")


class Stamp(BaseModel):
    """What each answer says of where it comes from."""

    request_id: str
    model_version: str
    model_sha256: str
    threshold: float


class OneAnswer(Stamp, Finding):
    pass


class ManyAnswer(Stamp):
    findings: list[Finding]


class Problem(BaseModel):
    """The one form of an error: what was expected, and where; never what was sent."""

    request_id: str
    error: str = Field(examples=["Input should be less than or equal to 255"])
    where: str | None = Field(None, examples=["body.pixels.3.5"])


class Refused(ValueError):
    """The model file is not what was released."""


class Model(NamedTuple):
    card: dict
    sha256: str
    scores: object  # callable: images (n, 28, 28), 0 to 255 -> n floats, 0 to 1


def pack(network, path, *, version, threshold, intended_use):
    """Save a network and its card in one file, so that one hash covers both.

    network: keras model, (n, 28, 28, 1) gray values 0 to 255 -> (n, 1) scores 0 to 1
    path: str or Path ending in .keras; version, intended_use: str
    threshold: float, 0 to 1; from this score on it is an alarm
    Returns: str, the SHA-256 of the file
    Introduced in: challenges/model_as_a_service
    """
    card = {"version": version, "threshold": threshold, "intended_use": intended_use}
    card["reference_score"] = float(network(REFERENCE[None, :, :, None])[0, 0])
    network.save(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("card.json", json.dumps(card))
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def load(path, sha256):
    """Load a packed model, if it is the file that was released and still works.

    path: str or Path; sha256: str, as `pack` returned it, kept in another place
    Returns: Model
    Raises: Refused if the file is missing, has another hash, is no packed network of
        the right shape, or scores the reference image otherwise
    Introduced in: challenges/model_as_a_service
    """
    if not Path(path).is_file():
        raise Refused(f"{path} is missing: fetch the released file")
    content = Path(path).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != sha256.lower():
        hashes = f"expected SHA-256 {sha256}, got {found}: fetch the released file"
        raise Refused(f"{path} is damaged or swapped: {hashes}")
    import keras
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "model.keras")  # of what was hashed, whatever comes later
        copy.write_bytes(content)
        try:
            with zipfile.ZipFile(copy) as file:
                card = json.loads(file.read("card.json"))
            network = keras.saving.load_model(copy, compile=False)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise Refused(f"{path} was not written by pack: {error}") from None
    shapes = network.input_shape, network.output_shape
    if shapes != ((None, SIDE, SIDE, 1), (None, 1)):
        raise Refused(f"{path} maps {shapes[0]} to {shapes[1]}, not image to score")
    spec = [tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32)]
    compiled = tf.function(network, input_signature=spec)

    def scores(images):
        X = np.asarray(images, np.float32)[..., None]
        return [round(p, 6) for p in compiled(X).numpy()[:, 0].tolist()]

    score, expected = scores([REFERENCE] * MOST_IMAGES)[0], card["reference_score"]
    if not abs(score - expected) < 1e-3:
        raise Refused(f"{path} scores the reference image {score}, not {expected}")
    return Model(card, found, scores)


class Bucket:
    """So many requests at once, and so many more a second, for each client."""

    def __init__(self, rate, burst, clock=time.monotonic):
        self.rate, self.burst, self.clock, self.left = rate, burst, clock, {}

    def wait(self, client):
        """Take one and return 0; if there is none, whole seconds until there is."""
        now = self.clock()
        tokens, before = self.left.get(client, (self.burst, now))
        tokens = min(self.burst, tokens + (now - before) * self.rate)
        free = tokens > 1 - 1e-9
        self.left[client] = tokens - free, now
        return 0 if free else math.ceil((1 - tokens) / self.rate)


def _digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def _admit(request, digests, bucket):
    """The name of the client that has this key, unless it is too fast."""
    given = _digest(request.headers.get("x-api-key", ""))
    names = [known[:8] for known in digests if hmac.compare_digest(known, given)]
    if not names:
        scheme = {"WWW-Authenticate": "ApiKey"}
        raise HTTPException(401, "the header X-API-Key is missing or wrong", scheme)
    if seconds := bucket.wait(names[0]):
        later = {"Retry-After": str(seconds)}
        raise HTTPException(429, f"too many requests: wait {seconds} s", later)
    return names[0]


def _check_body(request):
    """Type and length as the headers say them; the server reads no byte more."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "Content-Type must be application/json")
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        raise HTTPException(411, "a body needs its Content-Length, and no chunks")
    if int(length) > MOST_BYTES:
        raise HTTPException(413, f"a body may have {MOST_BYTES} bytes, not {length}")


async def _check_alphabet(request):
    """JSON between computers is UTF-8 (RFC 8259); Python would guess others, too."""
    if not json.detect_encoding(await request.body()).startswith("utf-8"):
        raise HTTPException(400, NO_JSON)


def _problem(request, refused, where=None):
    number = request.state.request_id
    body = Problem(request_id=number, error=refused.detail, where=where).model_dump()
    return JSONResponse(body, refused.status_code, refused.headers)


def guard(app, keys, bucket, counts, sha256):
    """Stand before FastAPI: parse nothing of strangers, log and count every request."""
    digests = [_digest(key) for key in keys]
    routes = {f"{method} {r.path}" for r in app.routes for method in r.methods}

    @app.middleware("http")
    async def guarded(request, call_next):
        begun, number = time.perf_counter(), secrets.token_hex(16)
        request.state.request_id = number
        route = f"{request.method} {request.scope['path']}"
        route = route if route in routes else "unknown"  # it may hold a name
        line = {"event": "request", "request_id": number, "route": route}
        line["model"] = sha256[:8]  # which one answered on Tuesday at three
        try:
            if route not in OPEN:
                line["client"] = _admit(request, digests, bucket)
            if route.startswith("POST"):
                _check_body(request)
                await _check_alphabet(request)
            answer = await call_next(request)
        except HTTPException as refused:
            answer = _problem(request, refused)
        except Exception as error:  # noqa: BLE001 - its text may hold what was sent
            line["error"] = type(error).__name__
            answer = _problem(request, HTTPException(500, "failed; ask by request_id"))
        answer.headers.update({"X-Request-ID": number, "Cache-Control": "no-store"})
        seconds, status = time.perf_counter() - begun, answer.status_code
        log.info({**line, "status": status, "ms": round(1000 * seconds, 1)})
        counts[f'service_requests_total{{route="{route}",status="{status}"}}'] += 1
        counts[f'service_seconds_total{{route="{route}"}}'] += seconds
        return answer


def _check_settings(keys, rate, burst):
    if not keys or min(map(len, keys)) < 32:
        raise ValueError("a key needs 32 characters: take secrets.token_urlsafe()")
    if not (0 < rate < math.inf and (burst is None or 1 <= burst < math.inf)):
        raise ValueError(f"expected rate > 0 and burst >= 1, got {rate} and {burst}")


def create_app(model, keys, *, rate=50, burst=None, clock=time.monotonic):
    """The service, as its /openapi.json describes it.

    model: Model, from `load`
    keys: list of str, 32 characters or more each; each key is a client
    rate: float, above 0, requests a second of a client; burst: int, 1 or more, requests
        at once, None for the rate; clock: callable, seconds that only rise
    Returns: FastAPI
    Raises: ValueError if there is no key, one is short, or rate or burst too small
    Introduced in: challenges/model_as_a_service
    """
    _check_settings(keys, rate, burst)
    burst = max(1, rate) if burst is None else burst
    stamp = {"model_version": model.card["version"], "model_sha256": model.sha256}
    stamp["threshold"] = model.card["threshold"]
    limits = {"rate": rate, "burst": burst, "images": MOST_IMAGES, "bytes": MOST_BYTES}
    counts, worker = Counter(), ThreadPoolExecutor(1)
    closed = {"docs_url": None, "redoc_url": None, "redirect_slashes": False}
    app = FastAPI(
        title="X-ray service", description=model.card["intended_use"], **closed
    )
    errors = {n: {"model": Problem} for n in (400, 401, 411, 413, 415, 422, 429, 500)}
    errors[429]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    key = APIKeyHeader(name="X-API-Key", auto_error=False)  # the guard has looked
    asks = {"dependencies": [Security(key)], "responses": errors}

    async def findings(images):  # one request after the other, health goes on
        loop = asyncio.get_running_loop()
        scores = await loop.run_in_executor(worker, model.scores, images)
        alarms = [p >= stamp["threshold"] for p in scores]
        counts["service_images_total"] += len(scores)
        counts["service_alarms_total"] += sum(alarms)
        return [{"score": p, "alarm": a} for p, a in zip(scores, alarms, strict=True)]

    @app.post("/v1/predict", **asks)
    async def predict(one: One, request: Request) -> OneAnswer:
        (found,) = await findings([one.pixels])
        return {"request_id": request.state.request_id, **stamp, **found}

    @app.post("/v1/predict-batch", **asks)
    async def predict_batch(many: Many, request: Request) -> ManyAnswer:
        found = await findings(many.images)
        return {"request_id": request.state.request_id, **stamp, "findings": found}

    @app.get("/v1/model", **asks)
    async def card() -> dict:
        return {**model.card, **stamp, "limits": limits}

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ready", **stamp}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics():
        return "".join(f"{name} {n}\n" for name, n in sorted(counts.items()))

    @app.exception_handler(HTTPException)
    async def refuse(request, refused):
        if refused.status_code == 400:
            refused.detail = NO_JSON
        return _problem(request, refused)

    @app.exception_handler(RequestValidationError)
    async def explain(request, invalid):
        fault = invalid.errors()[0]
        place = [str(part) for part in fault["loc"]]
        if fault["type"] == "extra_forbidden":
            place[-1] = "(unknown field)"  # its own name may be a patient's
        return _problem(request, HTTPException(422, fault["msg"]), ".".join(place))

    guard(app, keys, Bucket(rate, burst, clock), counts, model.sha256)
    return app


class Lines(logging.Formatter):
    """One JSON object a line; of an exception its kind only."""

    def format(self, record):
        said = record.msg
        line = said if isinstance(said, dict) else {"event": record.getMessage()}
        kind = {"error": record.exc_info[0].__name__} if record.exc_info else {}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": now, "level": record.levelname, **line, **kind})


def main():
    """Serve a file on 127.0.0.1, keys in HEALTHBOOK_API_KEY, commas between."""
    ask = argparse.ArgumentParser("helpers.service", description=main.__doc__)
    ask.add_argument("--model", required=True, help="file that pack wrote")
    ask.add_argument("--sha256", required=True, help="its hash, as released")
    ask.add_argument("--port", type=int, default=0, help="0: any, see the log")
    ask.add_argument("--rate", type=float, default=50, help="requests a second")
    ask.add_argument("--burst", type=float, help="requests at once")
    given = ask.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}
    keys = os.environ.pop("HEALTHBOOK_API_KEY", "").split(",")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Lines())
    logging.basicConfig(level="INFO", handlers=[handler])
    import uvicorn

    try:
        _check_settings(keys, given.rate, given.burst)
        model = load(given.model, given.sha256)
        app = create_app(model, keys, rate=given.rate, burst=given.burst)
    except ValueError as error:
        sys.exit(f"does not start: {error}")
    log.info({"event": "loaded", "sha256": model.sha256, **model.card})
    quiet = {"log_config": None, "access_log": False, "server_header": False}
    stop = {"timeout_graceful_shutdown": GRACE}
    uvicorn.run(app, port=given.port, ws="none", **quiet, **stop)


if __name__ == "__main__":
    main()
