"""The service in this process; a real one that is stopped, and one that is killed."""

import asyncio
import hashlib
import hmac
import itertools
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import processes, service

pytestmark = pytest.mark.filterwarnings(  # keras.Model.save, under NumPy 2
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
KEY, OTHER = "a" * 43, "b" * 43
SECRET = "Anna-Meier-1957"  # must not come back, and must not be written down
IMAGE = service.REFERENCE.tolist()
CARD = {"version": "1.2.3", "threshold": 0.5, "intended_use": "tests"}


def network(shape=(28, 28, 1), outputs=1, seed=0):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inside = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(outputs)]
    return keras.Sequential([keras.Input(shape), *inside, layers.Activation("sigmoid")])


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The network, its file and the hash of the file."""
    path = tmp_path_factory.mktemp("model") / "xray.keras"
    made = network()
    return made, path, service.pack(made, path, **CARD)


@pytest.fixture(scope="module")
def model(packed):
    return service.load(*packed[1:])


def stub(scores=lambda images: [0.5] * len(images), **card):
    return service.Model({**CARD, "reference_score": 0.5, **card}, "0" * 64, scores)


def app_of(model=None, keys=(KEY, OTHER), **options):
    return service.create_app(model or stub(), list(keys), **options)


def ask(app, *requests):
    """Send the requests, each (method, path, options), one after the other."""

    async def send():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return [await http.request(way, path, **o) for way, path, o in requests]

    return asyncio.run(send())


def post(content=None, path="/v1/predict", key=KEY, **headers):
    """A request; content is bytes, or what becomes JSON."""
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "X-API-Key": key} | headers
    return "POST", path, {"content": content, "headers": headers}


def get(path, key=KEY):
    return "GET", path, {"headers": {"X-API-Key": key}}


def one(**fields):
    return post({"pixels": IMAGE, **fields})


def changed(value, row=3, column=5):
    image = [list(line) for line in IMAGE]
    image[row][column] = value
    return image


# The model file


def test_a_packed_network_gives_the_scores_of_the_network(packed, model):
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28))
    direct = np.asarray(packed[0](images[..., None]))[:, 0]
    assert model.scores(images) == pytest.approx(direct, abs=2e-6)
    assert model.scores(images.tolist()) == model.scores(images)
    assert model.scores(images[:1]) == pytest.approx(model.scores(images)[:1], abs=2e-6)
    assert np.ptp(direct) > 0.01


def test_the_card_and_the_hash_are_those_of_the_file(packed, model):
    _, path, sha256 = packed
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256
    assert {name: model.card[name] for name in CARD} == CARD
    assert service.load(path, sha256.upper()).sha256 == sha256


def repacked(path, to, **card):
    """The same network with another card; without one if card is empty."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            if name != "card.json":
                new.writestr(name, old.read(name))
        if card:
            new.writestr("card.json", json.dumps(card))


def damage(kind, path, to):
    if kind == "missing":
        return
    content = bytearray(path.read_bytes())
    if kind == "cut short":
        content = content[: len(content) // 2]
    elif kind == "one bit":
        content[len(content) // 2] ^= 1
    elif kind == "swapped":
        service.pack(network(seed=1), to, **CARD)
        return
    elif kind == "another threshold":
        return repacked(path, to, **{**CARD, "threshold": 0.9, "reference_score": 0.5})
    to.write_bytes(content)


@pytest.mark.parametrize(
    "kind", ["missing", "cut short", "one bit", "swapped", "another threshold"]
)
def test_only_the_released_file_is_loaded(kind, packed, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("looked into a file that is not the released one")

    _, path, sha256 = packed
    damage(kind, path, tmp_path / "m.keras")
    monkeypatch.setattr(keras.saving, "load_model", never)
    monkeypatch.setattr(service.zipfile, "ZipFile", never)
    message = "m.keras is missing" if kind == "missing" else f"swapped.*{sha256}, got"
    with pytest.raises(service.Refused, match=message):
        service.load(tmp_path / "m.keras", sha256)


def released(path):
    return service.load(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_released_file_that_is_no_model_is_refused(packed, tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(packed[1].read_bytes()[:5000])
    with pytest.raises(service.Refused, match="was not written by pack.*zip"):
        released(path)
    repacked(packed[1], path)
    with pytest.raises(service.Refused, match="was not written by pack.*card.json"):
        released(path)


def test_a_network_of_another_shape_is_refused(tmp_path):
    for shape, outputs in [((28, 28, 3), 1), ((28, 28, 1), 2)]:
        made = network(shape, outputs)
        made.save(tmp_path / "m.keras")
        repacked(tmp_path / "m.keras", tmp_path / "n.keras", **CARD)
        with pytest.raises(service.Refused, match="maps .* not image to score"):
            released(tmp_path / "n.keras")


@pytest.mark.parametrize("off, fits", [(0.0005, True), (0.002, False), (-0.1, False)])
def test_the_reference_image_must_keep_its_score(off, fits, packed, model, tmp_path):
    score = model.card["reference_score"] + off
    repacked(packed[1], tmp_path / "m.keras", **CARD, reference_score=score)
    if fits:
        assert released(tmp_path / "m.keras").card["reference_score"] == score
    else:
        with pytest.raises(service.Refused, match="scores the reference image"):
            released(tmp_path / "m.keras")


def test_what_was_hashed_is_loaded_even_if_the_file_is_exchanged(
    packed, model, tmp_path, monkeypatch
):
    path, load_model = tmp_path / "m.keras", keras.saving.load_model
    shutil.copy(packed[1], path)

    def exchange_first(source, **options):
        service.pack(network(seed=1), path, **CARD)
        return load_model(source, **options)

    monkeypatch.setattr(keras.saving, "load_model", exchange_first)
    loaded = service.load(path, packed[2])
    assert loaded.scores([IMAGE]) == model.scores([IMAGE])
    assert released(path).scores([IMAGE]) != model.scores([IMAGE])


# The rate


def test_the_bucket_by_hand():
    now = [0.0]
    bucket = service.Bucket(rate=0.5, burst=2, clock=lambda: now[0])
    assert [bucket.wait("a") for _ in range(3)] == [0, 0, 2]
    now[0] = 1.0  # half a token
    assert bucket.wait("a") == 1
    assert bucket.wait("b") == 0  # has its own
    now[0] = 2.0
    assert [bucket.wait("a"), bucket.wait("a")] == [0, 2]
    now[0] = 1000.0  # no more than the burst is saved
    assert [bucket.wait("a") for _ in range(3)] == [0, 0, 2]


RATES = st.floats(0.01, 1000)


@given(RATES, st.integers(1, 20), st.lists(st.floats(0, 10), min_size=1, max_size=40))
def test_who_waits_as_told_gets_in_and_nobody_gets_more(rate, burst, pauses):
    now, passed = [0.0], 0
    bucket = service.Bucket(rate, burst, lambda: now[0])
    for pause in pauses:
        now[0] += pause
        seconds = bucket.wait("a")
        assert seconds >= 0 and seconds == int(seconds)
        passed += seconds == 0
        assert passed <= burst + rate * now[0] + 1e-6
    for _ in range(burst + 1):
        seconds = seconds or bucket.wait("a")
    assert seconds > 0  # empty
    now[0] += seconds
    assert bucket.wait("a") == 0


def test_above_the_rate_comes_429_with_a_time_that_suffices():
    now = [0.0]
    app = app_of(rate=0.25, burst=2, clock=lambda: now[0])
    first, second, third = ask(app, one(), get("/v1/model"), one())
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert third.headers["Retry-After"] == "4" and "wait 4 s" in third.json()["error"]
    other, health = ask(app, get("/v1/model", OTHER), get("/health"))
    assert (other.status_code, health.status_code) == (200, 200)
    now[0] += 3.9
    assert ask(app, one())[0].status_code == 429
    now[0] += 0.1
    assert ask(app, one())[0].status_code == 200


def test_who_has_no_key_uses_up_nobodys_rate():
    app = app_of(rate=0.01, burst=1)
    ask(app, *[post({}, key="wrong")] * 5)
    assert ask(app, one())[0].status_code == 200


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keys": []}, "32 characters"),
        ({"keys": [KEY, "short"]}, "32 characters"),
        ({"keys": [""]}, "32 characters"),
        ({"rate": 0}, "rate > 0"),
        ({"rate": float("nan")}, "rate > 0"),
        ({"rate": float("inf")}, "rate > 0"),
        ({"burst": 0.5}, "burst >= 1"),
        ({"burst": float("nan")}, "burst >= 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        app_of(**options)
    assert "short" not in str(caught.value)


# The key

STRANGERS = ["", "wrong", KEY[:-1], KEY + "a", KEY.upper(), "é", SECRET]


@pytest.mark.parametrize("key", STRANGERS)
def test_without_the_key_nothing_is_read(key):
    app, sent = app_of(), []

    async def receive():
        raise AssertionError("read the body of a stranger")

    async def send(message):
        sent.append(message)

    headers = [(b"x-api-key", key.encode()), (b"content-type", b"application/json")]
    for method, path in [("POST", "/v1/predict"), ("GET", "/v1/model"), ("GET", "/x")]:
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        rest = {"query_string": b"", "scheme": "http", "server": ("x", 1)}
        asyncio.run(app({**scope, **rest}, receive, send))
        start, body = sent[-2:]
        assert start["status"] == 401
        assert (b"www-authenticate", b"ApiKey") in start["headers"]
        assert json.loads(body["body"])["error"].startswith("the header X-API-Key")


def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch):
    seen, compare = [], hmac.compare_digest

    def noted(a, b):
        seen.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    assert ask(app_of(), one())[0].status_code == 200  # the first of two
    known = [hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER)]
    assert seen == [(known[0], known[0]), (known[1], known[0])]


@pytest.mark.parametrize("host", ["x/health?", "x/health#", "[", "localhost"])
def test_the_host_that_a_request_names_opens_nothing(host):
    app = app_of()
    (answer,) = ask(app, post({}, key="wrong", Host=host))
    assert answer.status_code == 401


def test_what_is_open_is_open_and_nothing_else_is():
    paths = ["/health", "/metrics", "/openapi.json", "/v1/model", "/docs", "/redoc"]
    paths += ["/", "/v1", "/health/", "//health", "/HEALTH"]
    answers = ask(app_of(), *[get(path, key="") for path in paths])
    assert [a.status_code for a in answers] == [200] * 3 + [401] * (len(paths) - 3)
    assert ask(app_of(), post({}, "/health", key=""))[0].status_code == 401
    missing = ask(app_of(), *[get(path) for path in paths[4:]])
    assert {a.status_code for a in missing} == {404}


# Answers


def test_every_answer_says_which_model_gave_it(packed, model):
    app = app_of(model)
    many = post({"images": [IMAGE] * 2}, "/v1/predict-batch")
    for answer in ask(app, one(), many, get("/v1/model"), get("/health")):
        said = answer.json()
        assert (said["model_version"], said["model_sha256"]) == ("1.2.3", packed[2])
        assert said["threshold"] == 0.5
        assert answer.headers["Cache-Control"] == "no-store"


def test_every_answer_has_a_number_of_its_own_and_so_has_every_error():
    app = app_of()
    answers = ask(app, one(), one(), one(name=1), get("/x"), post(b"", key="wrong"))
    numbers = [answer.json()["request_id"] for answer in answers]
    assert numbers == [answer.headers["X-Request-ID"] for answer in answers]
    assert len(set(numbers)) == 5 and all(len(number) == 32 for number in numbers)


@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 64), seed=st.integers(0, 99))
def test_a_batch_is_its_images_one_by_one(model, n, seed):
    app = app_of(model, rate=1e6)
    images = np.random.default_rng(seed).integers(0, 256, (n, 28, 28)).tolist()
    (batch,) = ask(app, post({"images": images}, "/v1/predict-batch"))
    singles = ask(app, *[post({"pixels": image}) for image in images[:5]])
    findings = batch.json()["findings"]
    assert len(findings) == n
    for finding, single in zip(findings, singles, strict=False):
        assert finding["score"] == pytest.approx(single.json()["score"], abs=2e-6)
        assert set(finding) == {"score", "alarm"}
    direct = model.scores(images)
    assert [f["score"] for f in findings] == pytest.approx(direct, abs=2e-6)


@pytest.mark.parametrize("score, alarm", [(0.3, True), (0.299999, False), (1, True)])
def test_from_the_threshold_on_it_is_an_alarm(score, alarm):
    (answer,) = ask(app_of(stub(lambda images: [score], threshold=0.3)), one())
    assert (answer.json()["score"], answer.json()["alarm"]) == (score, alarm)


def test_the_model_sees_the_pixels_in_their_place():
    seen = []

    def scores(images):
        seen.append(np.asarray(images))
        return [0.5] * len(images)

    image = np.random.default_rng(0).integers(0, 256, (28, 28))
    floats = image.astype(float).tolist()  # 3.0 is a whole number in JSON
    for pixels in (image.tolist(), floats):
        ask(app_of(stub(scores)), post({"pixels": pixels}))
        assert np.array_equal(seen[-1], image[None])


def test_what_the_schema_gives_as_an_example_is_answered():
    app = app_of()
    (schema,) = ask(app, get("/openapi.json"))
    parts = schema.json()["components"]["schemas"]
    for name, path in [("One", "/v1/predict"), ("Many", "/v1/predict-batch")]:
        example = {k: v["examples"][0] for k, v in parts[name]["properties"].items()}
        (answer,) = ask(app, post(example, path))
        assert answer.status_code == 200
    operation = schema.json()["paths"]["/v1/predict"]["post"]
    for status in ("401", "411", "413", "415", "422", "429"):
        form = operation["responses"][status]["content"]["application/json"]["schema"]
        assert form["$ref"].endswith("/Problem")
    assert operation["security"] == [{"APIKeyHeader": []}]


def test_others_are_answered_while_the_model_works_and_it_does_one_at_a_time():
    begun, end, at_work, most = threading.Event(), threading.Event(), [0], [0]

    def scores(images):
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        begun.set()
        assert end.wait(30)
        at_work[0] -= 1
        return [0.5] * len(images)

    async def send():
        transport = httpx.ASGITransport(app=app_of(stub(scores)))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            waiting = [
                asyncio.create_task(http.request(way, path, **options))
                for way, path, options in [one(), one(), one()]
            ]
            await asyncio.to_thread(begun.wait, 30)
            health = await http.get("/health")
            done = [task.done() for task in waiting]
            end.set()
            return health, done, await asyncio.gather(*waiting)

    health, done, answers = asyncio.run(send())
    assert health.status_code == 200 and done == [False] * 3 and most == [1]
    assert [answer.status_code for answer in answers] == [200] * 3


# What is refused

EMPTY, ROW = {}, [0] * 28
PIXELS = {
    "above": (changed(256), "pixels.3.5", "less than or equal to 255"),
    "far above": (changed(10**400), "pixels.3.5", "valid number"),
    "below": (changed(-1), "pixels.3.5", "greater than or equal to 0"),
    "between": (changed(2.5), "pixels.3.5", "multiple of 1"),
    "as text": (changed("7"), "pixels.3.5", "valid number"),
    "as a name": (changed(SECRET), "pixels.3.5", "valid number"),
    "true": (changed(True), "pixels.3.5", "valid number"),
    "null": (changed(None), "pixels.3.5", "valid number"),
    "a list": (changed([7]), "pixels.3.5", "valid number"),
    "an object": (changed({SECRET: 1}), "pixels.3.5", "valid number"),
    "NaN": (changed(float("nan")), "pixels.3.5", "equal to"),
    "infinite": (changed(float("inf")), "pixels.3.5", "equal to"),
    "no rows": ([], "pixels", "at least 28 items"),
    "27 rows": (IMAGE[:27], "pixels", "at least 28 items"),
    "29 rows": ([*IMAGE, ROW], "pixels", "at most 28 items"),
    "a short row": ([*IMAGE[:27], ROW[:27]], "pixels.27", "at least 28 items"),
    "a long row": ([[0] * 29, *IMAGE[1:]], "pixels.0", "at most 28 items"),
    "flat": (sum(IMAGE, []), "pixels.0", "valid list"),
    "a row as text": ([SECRET, *IMAGE[1:]], "pixels.0", "valid list"),
    "as one text": (SECRET, "pixels", "valid list"),
    "none": (None, "pixels", "valid list"),
    "a mapping": ({str(i): ROW for i in range(28)}, "pixels", "valid list"),
}


@pytest.mark.parametrize("name", PIXELS)
def test_a_bad_image_is_refused_and_the_answer_says_where(name):
    pixels, where, what = PIXELS[name]
    app, batch = app_of(), post({"images": [IMAGE, pixels]}, "/v1/predict-batch")
    for answer, place in zip(
        ask(app, post({"pixels": pixels}), batch),
        (f"body.{where}", f"body.{where.replace('pixels', 'images.1')}"),
        strict=True,
    ):
        assert answer.status_code == 422
        assert answer.json()["where"] == place and what in answer.json()["error"]
        assert SECRET not in answer.text


JSON = "application/json"
BODIES = {
    "nothing": (b"", JSON, 422, "required"),
    "no object": (b"[1]", JSON, 422, "valid dictionary"),
    "a number": (b"7", JSON, 422, "valid dictionary"),
    "no pixels": (b"{}", JSON, 422, "required"),
    "one more field": ({"pixels": IMAGE, SECRET: 1}, JSON, 422, "not permitted"),
    "half an object": (b'{"pixels": [', JSON, 422, "JSON"),
    "two objects": (b"{} {}", JSON, 422, "JSON"),
    "a comma too many": (b'{"pixels": [1,]}', JSON, 422, "JSON"),
    "not UTF-8": (b'{"\xff": 1}', JSON, 400, "UTF-8"),
    "nested too deep": (b"[" * 100_000, JSON, 400, "nested"),
    "a number of 5,000 digits": (b"1" * 5_000, JSON, 400, "JSON"),
    "UTF-16": ('{"pixels": []}'.encode("utf-16"), JSON, 400, "UTF-8"),
    "UTF-16 unmarked": ('{"pixels": []}'.encode("utf-16-le"), JSON, 400, "UTF-8"),
    "UTF-32": ('{"pixels": []}'.encode("utf-32-be"), JSON, 400, "UTF-8"),
    "packed": (b"\x1f\x8b\x08\x00", JSON, 400, "UTF-8"),
    "no type": ({"pixels": IMAGE}, "", 415, JSON),
    "a form": (b"pixels=1", "application/x-www-form-urlencoded", 415, JSON),
    "a picture": (b"\x89PNG", "image/png", 415, JSON),
    "nearly JSON": (b"{}", "application/jsonp", 415, JSON),
    "JSON as text": ({"pixels": IMAGE}, "text/plain", 415, JSON),
    "too large": (b" " * (service.MOST_BYTES + 1), JSON, 413, "524288 bytes"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_and_the_answer_says_what_is_wrong(name):
    content, kind, status, what = BODIES[name]
    (answer,) = ask(app_of(), post(content, **{"Content-Type": kind}))
    assert answer.status_code == status
    assert set(answer.json()) == {"request_id", "error", "where"}
    assert what in answer.json()["error"] and SECRET not in answer.text


@pytest.mark.parametrize("n, status", [(0, 422), (1, 200), (64, 200), (65, 422)])
def test_a_batch_has_1_to_64_images(n, status):
    (answer,) = ask(app_of(), post({"images": [IMAGE] * n}, "/v1/predict-batch"))
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["where"] == "body.images"


def test_the_largest_batch_that_is_allowed_fits_into_the_body():
    white = [[[255.0] * 28] * 28] * service.MOST_IMAGES
    assert len(json.dumps({"images": white})) < service.MOST_BYTES


def test_the_type_may_name_its_alphabet():
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        assert ask(app_of(), one(), post({"pixels": IMAGE}, **{"Content-Type": kind}))[
            1
        ].is_success


def test_a_body_of_unknown_length_is_not_read():
    async def parts():
        raise AssertionError("read a body of unknown length")
        yield b"{"

    way, path, options = post(b"")
    (answer,) = ask(app_of(), (way, path, {**options, "content": parts()}))
    assert answer.status_code == 411
    both = post({"pixels": IMAGE}, **{"Transfer-Encoding": "chunked"})
    assert ask(app_of(), both)[0].status_code == 411


def test_the_wrong_method_and_the_wrong_path():
    answers = ask(app_of(), get("/v1/predict"), post({}, "/v1/model"), get("/v1/x"))
    assert [answer.status_code for answer in answers] == [405, 405, 404]
    assert [a.headers.get("Allow") for a in answers] == ["POST", "GET", None]


# What is written down


def records(caplog):
    return [r.msg for r in caplog.records if r.name == "helpers.service"]


def test_one_line_a_request_and_nothing_of_the_patient_in_it(caplog):
    caplog.set_level(logging.DEBUG)
    app = app_of()
    named = "GET", f"/v1/{SECRET}?name={SECRET}", get("")[2]
    odd = SECRET, "/v1/predict", get("")[2]
    bodies = [one(**{SECRET: SECRET}), post({"pixels": changed(SECRET)})]
    bodies += [post(f'{{"{SECRET}'.encode()), post({}, **{"Content-Type": SECRET})]
    answers = ask(
        app, one(), named, odd, *bodies, post({}, key=SECRET), get("/metrics")
    )
    lines = records(caplog)
    assert len(lines) == len(answers) == 9
    said = [r.getMessage() for r in caplog.records if r.name != "httpx"]  # the client
    written = repr(said) + "".join(answer.text for answer in answers)
    for word in (SECRET, KEY, str(IMAGE[0])[1:-1]):
        assert word.lower() not in written.lower()
    for line, answer in zip(lines, answers, strict=True):
        assert line["status"] == answer.status_code
        assert line["request_id"] == answer.headers["X-Request-ID"]
        keys = {"event", "request_id", "route", "model", "status", "ms"}
        assert set(line) - {"client"} == keys and line["ms"] >= 0
        assert (line["event"], line["model"]) == ("request", "0" * 8)  # of its hash
    name = hashlib.sha256(KEY.encode()).hexdigest()[:8]
    assert [line.get("client") for line in lines] == [name] * 7 + [None] * 2
    assert [line["route"] for line in lines[:3]] == ["POST /v1/predict"] + [
        "unknown"
    ] * 2


@pytest.mark.parametrize(
    "wrong", [[float("nan")], [1.5], [], ["x"], ValueError(SECRET), KeyError(SECRET)]
)
def test_a_model_that_fails_gives_no_score_and_tells_nothing(wrong, caplog):
    def scores(images):
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    caplog.set_level(logging.DEBUG)
    app = app_of(stub(scores))
    failed, health = ask(app, one(), get("/health"))
    assert (failed.status_code, health.status_code) == (500, 200)
    assert set(failed.json()) == {"request_id", "error", "where"}
    assert SECRET not in failed.text + caplog.text + repr(records(caplog))
    line = records(caplog)[0]
    assert line["request_id"] == failed.json()["request_id"] and line["status"] == 500
    assert line["error"].isidentifier()


def test_a_log_line_is_one_json_object(capsys):
    lines, logger = service.Lines(), logging.getLogger("test")

    def written(message, *arguments, exc_info=None):
        record = logger.makeRecord("n", 30, "f", 1, message, arguments, exc_info)
        (line,) = lines.format(record).splitlines()
        return json.loads(line)

    assert written({"event": "request", "ms": 1})["ms"] == 1
    line = written("two\nlines %s", 7)
    assert (line["event"], line["level"]) == ("two\nlines 7", "WARNING")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
    try:
        raise ValueError(SECRET)
    except ValueError:
        line = written("failed", exc_info=sys.exc_info())
    assert line["error"] == "ValueError" and SECRET not in str(line)


def test_the_metrics_count_what_was_asked_and_answered():
    app = app_of(stub(lambda images: [0.4, 0.6][: len(images)]))
    many = post({"images": [IMAGE] * 2}, "/v1/predict-batch")
    ask(app, one(), one(), many, one(more=1), post({}, key="wrong"), get(f"/{SECRET}"))
    (text,) = ask(app, get("/metrics"))
    assert text.headers["Content-Type"].startswith("text/plain")
    counts = dict(line.rsplit(" ", 1) for line in text.text.splitlines())
    seconds = {k: float(counts.pop(k)) for k in list(counts) if "seconds" in k}
    assert counts == {
        'service_requests_total{route="POST /v1/predict",status="200"}': "2",
        'service_requests_total{route="POST /v1/predict",status="401"}': "1",
        'service_requests_total{route="POST /v1/predict",status="422"}': "1",
        'service_requests_total{route="POST /v1/predict-batch",status="200"}': "1",
        'service_requests_total{route="unknown",status="404"}': "1",
        "service_images_total": "4",
        "service_alarms_total": "1",
    }
    routes = ["POST /v1/predict", "POST /v1/predict-batch", "unknown"]
    assert set(seconds) == {f'service_seconds_total{{route="{r}"}}' for r in routes}
    assert all(s > 0 for s in seconds.values())


# Real processes

SERVE = [sys.executable, "-m", "helpers.service"]
POSIX = pytest.mark.skipif(
    os.name != "posix", reason="Windows ends a process without asking it to stop"
)


@pytest.mark.parametrize(
    "key, change, message",
    [
        (SECRET, {}, "a key needs 32 characters"),
        (KEY, {"--model": "nowhere.keras"}, "nowhere.keras is missing"),
        (
            KEY,
            {"--sha256": "0" * 64},
            f"damaged or swapped: expected SHA-256 {'0' * 64}",
        ),
    ],
)
def test_it_does_not_start_and_says_why_in_one_line(
    key, change, message, packed, tmp_path
):
    for name in ("keras", "tensorflow"):  # not even imported
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    given = {"--model": packed[1], "--sha256": packed[2], **change}
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    ended = subprocess.run(
        [*SERVE, *itertools.chain(*given.items())],
        env={**os.environ, "HEALTHBOOK_API_KEY": key, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("does not start: ") and message in line
    assert SECRET not in line and KEY not in line


@pytest.fixture(scope="module")
def running(packed, tmp_path_factory):
    """Two services, started together: (process, address, log) each."""
    folder = tmp_path_factory.mktemp("logs")
    command = [*SERVE, "--model", packed[1], "--sha256", packed[2], "--rate", "1e6"]
    keys = {"HEALTHBOOK_API_KEY": f"{KEY},{OTHER}"}
    logs = [folder / "0", folder / "1"]
    made = [processes.start(command, log=log, environment=keys) for log in logs]

    def address(process, log):
        until = time.monotonic() + 120
        line = r'"event": "Uvicorn running on (http://127\.0\.0\.1:\d+) '
        while not (found := re.search(line, log.read_text())):
            assert process.running and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        return found[1]

    yield [(p, address(p, log), log) for p, log in zip(made, logs, strict=True)]
    for process in made:
        process.stop()


def load_on(address, answers, enough):
    """32 clients that ask until the service is gone; what came, or the error."""

    def client(_):
        with httpx.Client(base_url=address, timeout=30, verify=False) as http:
            while True:
                try:
                    answers.append(http.request(way, path, **options))
                except httpx.TransportError as error:
                    return error
                if len(answers) >= enough:
                    ready.set()

    way, path, options = post({"images": [IMAGE] * 4}, "/v1/predict-batch")
    ready, pool = threading.Event(), ThreadPoolExecutor(32)
    waiting = [pool.submit(client, k) for k in range(32)]
    assert ready.wait(60)
    return pool, waiting


def test_a_service_listens_on_this_computer_only(running):
    for process, address, _ in running:
        assert process.running and address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{address}/health").json()["status"] == "ready"


def test_a_tool_that_makes_requests_from_the_schema_finds_nothing(running, tmp_path):
    _, address, log = running[0]
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(
        'headers = { X-API-Key = "${HEALTHBOOK_API_KEY}" }\n'
        "[[operations]]\n"
        'include-path = "/v1/predict-batch"\n'  # good batches take minutes to draw
        'generation = { mode = "negative" }\n'
        "phases = { fuzzing = { enabled = false } }\n"
    )
    tool = shutil.which("schemathesis", path=Path(sys.executable).parent)
    command = [tool, "--config-file", settings, "run", f"{address}/openapi.json"]
    command += ["--suppress-health-check", "all", "--seed", "0", "-n", "5"]
    ended = subprocess.run(
        command,
        env={**os.environ, "HEALTHBOOK_API_KEY": KEY},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert "Tested: 5" in ended.stdout
    assert KEY not in log.read_text()


@POSIX
def test_a_killed_service_gives_whole_answers_or_none(running):
    process, address, _ = running[1]
    answers = []
    pool, waiting = load_on(address, answers, enough=100)
    os.kill(process.pid, 9)
    errors = [task.result(60) for task in waiting]
    pool.shutdown()
    assert process.wait(60) == -9
    assert len(errors) == 32 and all(errors)  # each client was told
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        assert len(answer.json()["findings"]) == 4


@POSIX
def test_a_stopped_service_finishes_what_it_began_and_begins_nothing(running):
    process, address, log = running[0]
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps({"pixels": IMAGE}).encode()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Type: "
    head += f"application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answers = []
    pool, waiting = load_on(address, answers, enough=50)
    with closing(socket.create_connection((host, int(port)), timeout=30)) as begun:
        begun.sendall(head.encode() + body[:100])
        httpx.get(f"{address}/health", timeout=30)  # so it has read the first half
        os.kill(process.pid, 15)
        errors = [task.result(60) for task in waiting]
        pool.shutdown()
        assert len(errors) == 32 and all(errors)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")
        begun.sendall(body[100:])
        with begun.makefile("rb") as stream:
            answer = stream.read().decode()
    assert answer.startswith("HTTP/1.1 200 OK")
    assert json.loads(answer.split("\r\n\r\n")[1])["model_version"] == "1.2.3"
    assert process.wait(60) == 0
    for answer in answers:
        assert len(answer.json()["findings"]) == 4
    lines = [json.loads(x) for x in log.read_text().splitlines() if x.startswith("{")]
    assert lines[0]["event"] == "loaded"
    batches = [x for x in lines if x.get("route") == "POST /v1/predict-batch"]
    assert sum(x["status"] == 200 for x in batches) >= len(answers)
    assert KEY not in log.read_text() and "Traceback" not in log.read_text()
