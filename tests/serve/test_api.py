"""The REST API as its users see it, over real connections, with models in the same process."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.serve.journal import JsonLines
from sensorium.serve.options import ServeOptions
from tests.serve import small_cnn
from tests.serve.running import installed, running

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
TOKEN = "a-token-for-tests-only"


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def png(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    folder = tmp_path_factory.mktemp("serve")
    with installed(folder / "site"):
        catalog = Catalog(folder / "lake")
        small_cnn.save(catalog)
        photos = catalog.create("photos", modality="image", fields={"subject": "string"}, licence="CC0")
        photos.append({"id": f"folder/{n}", "image": np.roll(PICTURE, n, 0), "subject": f"thing {n}"} for n in range(5))
        yield catalog


@pytest.fixture(scope="module")
def client(lake: Catalog) -> Iterator[httpx.Client]:
    with running(lake, ServeOptions(port=0, pages=False, body_bytes=1 << 20, body_seconds=1.0)) as found:
        yield found


@pytest.fixture(scope="module")
def expected(lake: Catalog) -> dict[str, Any]:
    return small_cnn.predicted(lake.model("small"), PICTURE)


def agrees(answer: httpx.Response, expected: dict[str, Any]) -> bool:
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["model"] == "small@1"
    assert found["run"] == "run-0"
    assert found["request"] == answer.headers["x-request-id"]
    same = np.allclose(found["result"]["probabilities"], expected["probabilities"], atol=1e-6)
    return same and found["result"]["predicted"] == expected["predicted"]


# -- predictions -------------------------------------------------------------------------------------------------------


def test_every_form_of_a_picture_gives_the_same_answer(client: httpx.Client, expected: dict[str, Any]) -> None:
    place = "/v1/models/small/predict"
    npz = io.BytesIO()
    np.savez(npz, image=PICTURE)
    assert agrees(client.post(place, content=npy(PICTURE)), expected)
    assert agrees(client.post(place, content=npz.getvalue()), expected)
    assert agrees(client.post(place, content=png(PICTURE)), expected)
    assert agrees(client.post(place, files={"file": ("x.png", png(PICTURE))}), expected)
    assert agrees(client.post(place, files={"image": ("x.npy", npy(PICTURE))}), expected)
    assert agrees(client.post(place, json={"sample": {"image": PICTURE.tolist()}}), expected)
    assert agrees(client.post("/v1/models/small@1/predict", content=npy(PICTURE)), expected)


def test_samples_of_the_lake_are_predicted_by_id(client: httpx.Client, expected: dict[str, Any]) -> None:
    asked = {"dataset": "photos", "ids": ["folder/0", "folder/3"]}
    answer = client.post("/v1/models/small/predict", json=asked)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == 2
    assert np.allclose(results[0]["result"]["probabilities"], expected["probabilities"], atol=1e-6)
    missing = client.post("/v1/models/small/predict", json={"dataset": "photos", "ids": ["nobody"]})
    assert missing.status_code == 404
    assert "nobody" in missing.json()["error"]


def test_a_sample_that_cannot_be_predicted_does_not_spoil_the_others(client: httpx.Client) -> None:
    many = [{"image": PICTURE.tolist()}, {"image": PICTURE[:32].tolist()}, {"image": PICTURE.tolist()}]
    results = client.post("/v1/models/small/predict", json={"samples": many}).json()["results"]
    assert [list(result) == ["error"] for result in results] == [False, True, False]
    assert "(32, 64, 3)" in results[1]["error"]


def test_a_picture_of_the_result_and_the_result_as_a_file(client: httpx.Client, expected: dict[str, Any]) -> None:
    drawn = client.post("/v1/models/small/predict?pictures=true", content=npy(PICTURE)).json()["pictures"]
    assert drawn["probabilities"].startswith("data:image/png;base64,")
    file = client.post("/v1/models/small/predict?format=npz", content=npy(PICTURE))
    assert file.headers["x-model"] == "small@1"
    with np.load(io.BytesIO(file.content)) as arrays:
        assert np.allclose(arrays["probabilities"], expected["probabilities"], atol=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/models/smal/predict", npy(PICTURE), 404, "small"),
        ("/v1/models/small@9/predict", npy(PICTURE), 404, "9"),
        ("/v1/models/small/predict", b"", 415, "body"),
        ("/v1/models/small/predict", npy(PICTURE)[:-7], 422, "image"),
        ("/v1/models/small/predict", npy(PICTURE[:, :, :2]), 422, "image"),
        ("/v1/models/small/predict", png(PICTURE)[:200], 422, "truncated"),
        ("/v1/models/small/predict", b"MZ" + bytes(500), 415, ""),
        ("/v1/models/small/predict?format=pickle", npy(PICTURE), 422, "npz"),
    ],
)
def test_bad_requests_are_answered_in_words(
    client: httpx.Client, path: str, body: bytes, status: int, words: str
) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"samples": []}', b'{"sample": 3}', b'{"dataset": "photos", "ids": [3]}', b"[" * 9999]
)
def test_bad_json_is_answered_in_words(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/models/small/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]


def test_a_promoted_version_takes_over_without_a_pause(lake: Catalog, tmp_path: Path) -> None:
    small_cnn.save(lake, "changing", seed=1)
    lake.promote("changing@1", "production")
    with running(lake, ServeOptions(port=0, pages=False)) as client:

        def version() -> str:
            answer = client.post("/v1/models/changing/predict", content=npy(PICTURE))
            assert answer.status_code == 200, answer.text
            return str(answer.json()["model"])

        assert version() == "changing@1"
        small_cnn.save(lake, "changing", seed=2)
        lake.promote("changing@2", "production")
        until = time.monotonic() + 20
        seen = []
        while time.monotonic() < until and (not seen or seen[-1] != "changing@2"):
            seen.append(version())
        assert seen[-1] == "changing@2"
        assert sorted(seen) == seen
        assert client.post("/v1/models/changing@1/predict", content=npy(PICTURE)).json()["model"] == "changing@1"


# -- the catalog -------------------------------------------------------------------------------------------------------


def test_data_sets_and_their_samples(client: httpx.Client) -> None:
    (listed,) = client.get("/v1/datasets").json()
    assert (listed["name"], listed["samples"], listed["licence"]) == ("photos", 5, "CC0")
    shown = client.get("/v1/datasets/photos").json()
    assert {"image", "subject"} <= {field["name"] for field in shown["fields"]}
    rows = client.get("/v1/datasets/photos/samples", params={"where": "subject = 'thing 3'"}).json()
    assert [row["id"] for row in rows["rows"]] == ["folder/3"]
    page = client.get("/v1/datasets/photos/samples", params={"limit": 2, "offset": 4}).json()
    assert (page["samples"], len(page["rows"])) == (5, 1)
    one = client.get("/v1/datasets/photos/samples/folder/3").json()
    assert one["arrays"]["image"] == {"shape": [64, 64, 3], "dtype": "uint8"}
    picture = client.get("/v1/datasets/photos/samples/folder/3/preview.png")
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"
    file = client.get("/v1/datasets/photos/samples/folder/3/download.npz")
    with np.load(io.BytesIO(file.content)) as arrays:
        assert np.array_equal(arrays["image"], np.roll(PICTURE, 3, 0))
    sent = client.post("/v1/models/small/predict", content=file.content)  # what was downloaded can be sent as it is
    stored = client.post("/v1/models/small/predict", json={"dataset": "photos", "ids": ["folder/3"]})
    assert sent.status_code == 200, sent.text
    assert sent.json()["result"] == stored.json()["results"][0]["result"]
    assert client.get("/v1/datasets/fotos").status_code == 404
    assert client.get("/v1/datasets/photos/samples", params={"where": "subject ="}).status_code == 400


def test_queries_are_answered_and_only_queries(client: httpx.Client) -> None:
    asked = {"query": "SELECT subject, id FROM photos WHERE id > 'folder/2' ORDER BY id"}
    found = client.post("/v1/query", json=asked).json()
    assert found["columns"] == ["subject", "id"]
    assert [row["id"] for row in found["rows"]] == ["folder/3", "folder/4"]
    cut = client.post("/v1/query", json={**asked, "limit": 1}).json()
    assert (len(cut["rows"]), cut["truncated"]) == (1, True)
    file = client.post("/v1/query?format=parquet", json=asked)
    assert pl.read_parquet(io.BytesIO(file.content)).height == 2
    for bad in ("DROP TABLE photos", "SELECT * FROM read_csv('/etc/passwd')", "SELECT 1; SELECT 2", "x" * 20_000):
        assert client.post("/v1/query", json={"query": bad}).status_code in (400, 422), bad


def test_systems_models_and_the_description_of_the_api(client: httpx.Client, lake: Catalog) -> None:
    systems = {system["name"]: system for system in client.get("/v1/systems").json()}
    assert systems["small_cnn"]["models"][-1] == "small@1"
    assert "small" in [model["name"] for model in client.get("/v1/models").json()]
    assert client.get("/v1/models/small").json()["fields"] == ["image"]
    described = client.get("/openapi.json").json()
    kinds = described["paths"]["/v1/models/{reference}/predict"]["post"]["requestBody"]["content"]
    assert {"application/x-npy", "application/json", "multipart/form-data"} <= set(kinds)
    assert "ImageSample" in described["components"]["schemas"]
    page = client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text.replace("https://fastapi.tiangolo.com", "")
    client.post("/v1/models/small/predict", content=npy(PICTURE))
    lines = client.get("/metrics").text
    assert 'sensorium_predictions_total{model="small@1",outcome="result"}' in lines
    assert client.get("/readyz").json()["ready"] is True
    assert lake.storage.root not in client.get("/v1/models/nothing").text


# -- what every request passes -----------------------------------------------------------------------------------------


def test_bodies_are_limited_however_they_are_sent(client: httpx.Client) -> None:
    large = bytes(2 << 20)
    assert client.post("/v1/models/small/predict", content=large).status_code == 413
    parts = (large[:65_536] for _ in range(64))
    assert client.post("/v1/models/small/predict", content=parts).status_code == 413
    assert client.get("/healthz").status_code == 200


def raw(client: httpx.Client, *parts: bytes, wait: float = 0.0) -> bytes:
    """What the server says to bytes as they are."""
    address = client.base_url.host, client.base_url.port or 80
    with socket.create_connection(address, timeout=30) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(wait)
        except OSError:
            pass
        try:
            return connection.recv(65_536)
        except OSError:
            return b""


def test_slow_bodies_and_endless_heads_are_ended(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"POST /v1/models/small/predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9999\r\n\r\nslow"
    assert raw(client, head).startswith(b"HTTP/1.1 408")
    assert b" 431 " in raw(client, b"GET / HTTP/1.1\r\n", *[b"a: b\r\n" * 4000] * 8)
    monkeypatch.setattr("sensorium.serve.wire.HEAD_SECONDS", 0.3)
    assert raw(client, b"GET / HTTP/1.1\r\nhost:").startswith(b"HTTP/1.1 408")
    assert b" 400 " in raw(client, b"\x16\x03\x01 no HTTP\r\n\r\n")
    assert client.get("/healthz").status_code == 200


def test_other_sites_are_kept_out(client: httpx.Client) -> None:
    assert client.get("/v1/datasets", headers={"host": "evil.example"}).status_code == 421
    foreign = client.post("/v1/query", json={"query": "SELECT 1"}, headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403
    answer = client.get("/v1/datasets", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/v1/datasets/..%2f..%2fetc", "/ui/../../etc/passwd", "/v1/models/..%2f..%2fx"]
)
def test_paths_lead_nowhere_else(client: httpx.Client, path: str) -> None:
    answer = raw(client, f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"400", b"404", b"422"), answer
    assert b"root:" not in answer


def test_request_ids_are_kept_if_they_are_harmless(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/healthz", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_the_access_log_is_structured_and_holds_no_secret(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="sensorium.serve.access"):
        client.get("/v1/datasets?token=secret", headers={"authorization": "Bearer secret"})
        time.sleep(0.1)
    record = json.loads(JsonLines().format(caplog.records[-1]))
    assert (record["path"], record["status"], record["method"]) == ("/v1/datasets", 200, "GET")
    assert {"time", "id", "client", "ms", "sent"} <= set(record)
    assert "secret" not in str(record)
    assert "secret" not in caplog.text


def test_a_token_is_asked_for_where_there_is_one(lake: Catalog) -> None:
    with running(lake, ServeOptions(port=0, pages=False, token=TOKEN)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/datasets").status_code == 401
        assert client.get("/v1/datasets", headers={"authorization": "Bearer wrong-token-here"}).status_code == 401
        assert client.get("/v1/datasets", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        page = client.get("/", headers={"accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/sign-in")
        assert client.post("/sign-in", data={"token": "wrong"}).status_code == 401
        signed = client.post("/sign-in", data={"token": TOKEN})
        assert signed.status_code == 303
        assert "HttpOnly" in signed.headers["set-cookie"]
        assert TOKEN not in signed.headers["set-cookie"]
        assert client.get("/v1/datasets").status_code == 200  # the cookie came with it


def test_a_proxys_word_counts_only_from_the_proxy(lake: Catalog) -> None:
    options = ServeOptions(port=0, pages=False, proxy_header="X-Forwarded-User", proxies=("127.0.0.1",))
    with running(lake, options) as client:
        assert client.get("/v1/datasets").status_code == 401
        assert client.get("/v1/datasets", headers={"x-forwarded-user": "ada"}).status_code == 200
    elsewhere = ServeOptions(port=0, pages=False, proxy_header="X-Forwarded-User", proxies=("192.0.2.1",))
    with running(lake, elsewhere) as client:
        assert client.get("/v1/datasets", headers={"x-forwarded-user": "ada"}).status_code == 401


def test_a_client_has_a_budget_of_requests(lake: Catalog) -> None:
    with running(lake, ServeOptions(port=0, pages=False, rate=5)) as client:
        answers = [client.get("/healthz") for _ in range(15)]
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
