"""What attackers send, over real connections: each answered with the right 4xx, and the service alive after it."""

from __future__ import annotations

import gzip
import io
import pickle
import socket
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.serve.options import ServeOptions
from tests.serve import made_files, small_cnn
from tests.serve.running import installed, running

PREDICT = "/v1/models/small/predict"
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


class Touches:
    """Writes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.place), "w")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("attacks")
    with installed(folder / "site"):
        catalog = Catalog(folder / "lake")
        small_cnn.save(catalog)
        catalog.create("photos", modality="image").append([{"id": "a", "image": PICTURE}])
        options = ServeOptions(port=0, pages=False, body_bytes=8 << 20, body_seconds=1.0)
        with running(catalog, options) as found:
            yield found


@pytest.fixture(autouse=True)
def alive(client: httpx.Client) -> Iterator[None]:
    """After each attack a plain request is answered as ever."""
    yield
    content = io.BytesIO()
    np.save(content, PICTURE)
    assert client.post(PREDICT, content=content.getvalue()).status_code == 200


def pickled(place: Path) -> bytes:
    return pickle.dumps(Touches(place))


def object_array(place: Path) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Touches(place)], dtype=object), allow_pickle=True)
    return content.getvalue()


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "/"), data)
    return content.getvalue()


def attacks(place: Path) -> dict[str, tuple[bytes, set[int]]]:
    """Bodies by name, and the statuses that suit them."""
    png = made_files.picture("PNG", PICTURE)
    npy = made_files.npy(PICTURE)
    return {
        "a picture of 900 megapixels": (made_files.png_header(30_000, 30_000), {413}),
        "a picture of 144 megapixels": (made_files.png_header(12_000, 12_000), {413}),
        "an archive of zeros": (made_files.npz(image=np.zeros((600, 1 << 20), np.uint8)), {413}),
        "an archive that leaves its folder": (archive(**{"..__..__etc__image.npy": npy}), {415, 422}),
        "an archive in an archive": (archive(**{"image.npy": archive(x=b"0" * 5000)}), {415, 422}),
        "a pickle": (pickled(place), {415}),
        "a pickle in an array": (object_array(place), {415, 422}),
        "a pickle in an archive": (archive(**{"image.npy": object_array(place)}), {415, 422}),
        "an array whose header is huge": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 30) + b"{" * 5000, {413, 422}),
        "an array that claims a petabyte": (npy.replace(b"(64, 64, 3)", b"(9999999, 9999999, 3)"), {413, 422}),
        "a gzip of zeros": (gzip.compress(bytes(700 << 20), 1)[: 8 << 20], {413, 415, 422}),
        "a volume of 16 GB in 352 bytes": (made_files.nifti_claiming((4000, 2000, 1000)), {413, 415, 422}),
        "a picture that is a page as well": (b"<html><script>alert(1)</script>" + png, {415}),
        "a drawing with a script": (b'<?xml version="1.0"?><svg onload="alert(1)"/>', {415}),
        "a program": (b"\x7fELF" + bytes(4000), {415}),
        "half a picture": (png[: len(png) // 2], {422}),
        "noise": (np.random.default_rng(1).bytes(50_000), {415, 422}),
        "a recording instead of a picture": (made_files.sound("WAV"), {415, 422}),
    }


@pytest.mark.parametrize("name", sorted(attacks(Path("nowhere"))))
def test_files_of_attackers(client: httpx.Client, name: str, tmp_path: Path) -> None:
    mark = tmp_path / "touched"
    body, statuses = attacks(mark)[name]
    for answer in (client.post(PREDICT, content=body), client.post(PREDICT, files={"image": ("../../x.png", body)})):
        assert answer.status_code in statuses, (name, answer.text)
        assert answer.json()["error"]
        assert "Traceback" not in answer.text
    assert not mark.exists()


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE photos", "DELETE FROM photos", "CREATE TABLE x AS SELECT * FROM photos", "TRUNCATE TABLE photos",
        "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "SELECT 1; DROP TABLE photos",
        "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT * FROM r) SELECT * FROM r", "EXPLAIN SELECT * FROM photos",
        "SELECT * FROM photos INTO OUTFILE '/tmp/x'", "COPY photos TO '/tmp/x'", "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    ],
)  # fmt: skip
def test_queries_of_attackers(client: httpx.Client, query: str) -> None:
    answer = client.post("/v1/query", json={"query": query})
    assert answer.status_code == 400, answer.text
    assert client.get("/v1/datasets/photos").json()["samples"] == 1


@pytest.mark.parametrize(
    "where", ["1 = 1; DROP TABLE x", "id IN (SELECT * FROM read_csv('/etc/passwd'))", "1=1) OR (1=1"]
)
def test_conditions_of_attackers(client: httpx.Client, where: str) -> None:
    assert client.get("/v1/datasets/photos/samples", params={"where": where}).status_code == 400


def test_json_of_attackers(client: httpx.Client) -> None:
    kind = {"content-type": "application/json"}
    large = b'{"sample": {"image": [' + b"1," * 3_000_000 + b"1]}}"
    assert client.post(PREDICT, content=large, headers=kind).status_code == 413
    deep = b'{"sample": {"image": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    assert client.post(PREDICT, content=deep, headers=kind).status_code == 422
    assert client.post(PREDICT, content=b'{"sample": {"image": [[1, "x"]]}}', headers=kind).status_code == 422
    assert client.post("/v1/query", content=b'{"query": 5}', headers=kind).status_code == 422


@pytest.mark.parametrize("fields", [200, 20])
def test_forms_with_too_many_parts(client: httpx.Client, fields: int) -> None:
    files = [(f"f{number}", ("x.npy", b"x")) for number in range(fields)]
    assert client.post(PREDICT, files=files).status_code in (400, 413, 422)


def test_slow_uploads_hold_nobody_up(client: httpx.Client) -> None:
    address = client.base_url.host, client.base_url.port or 80
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100000\r\n\r\n".encode()
    slow = [socket.create_connection(address, timeout=30) for _ in range(40)]
    for connection in slow:
        connection.sendall(head + b"x")
    started = time.monotonic()
    assert client.get("/healthz").status_code == 200
    assert time.monotonic() - started < 1.0
    answers = [connection.recv(100) for connection in slow]
    for connection in slow:
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)


def test_requests_that_are_two(client: httpx.Client) -> None:
    """A body whose length is said twice must not be taken for a second request."""
    address = client.base_url.host, client.base_url.port or 80
    smuggled = (
        f"POST {PREDICT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 44\r\ntransfer-encoding: chunked\r\n\r\n"
        "0\r\n\r\nGET /v1/datasets HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    ).encode()
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(smuggled)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
