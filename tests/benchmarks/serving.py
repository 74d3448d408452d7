"""The application under load: latency, answers a second, CPU of an answer, and what batching gains."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.platform.settings import Settings
from sensorium.platform.tables import print_rows
from sensorium.serve.application import serving
from sensorium.serve.options import ServeOptions
from tests.benchmarks.clients import Load, cpu_of, load, memory_of, processes_of, request
from tests.serve import small_cnn

__all__ = ["crowd", "serve"]

_REPLICAS = ("ray::ServeReplica",)
_PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
_PEER = """
import io, sys
import numpy as np, torch, uvicorn
from fastapi import FastAPI, Request
sys.path.insert(0, sys.argv[3])
from sensorium.catalog import Catalog
from sensorium.jobs.training.method import load_model
torch.set_num_threads(1)
method, fitted = load_model(Catalog(sys.argv[1]).model("small"))
application = FastAPI()

@application.post("/v1/models/small/predict")
async def predict(request: Request):
    image = np.load(io.BytesIO(await request.body()))
    result = method.predict(fitted, [{"id": "request", "image": image}])[0]
    return {"predicted": result["predicted"], "probabilities": result["probabilities"].tolist()}

uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="error")
"""


def serve(folder: Path) -> None:
    """A small CNN with a body of 12 kB, and one that takes longer, beside a bare FastAPI with the model inside."""
    catalog, body = _lake(folder), _array()
    rows: list[list[str]] = []
    _peer(folder, rows, body)
    options = ServeOptions(port=0, replicas=(1, 1))
    with serving(catalog.storage, options, Settings(cpus=2)) as served:
        for name in ("small", "wide"):
            asyncio.run(_measured(rows, f"sensorium, {name}", served.port, name, body))
    unbatched = ServeOptions(port=0, replicas=(1, 1), batch=1)
    with serving(catalog.storage, unbatched, Settings(cpus=2)) as served:
        asyncio.run(_measured(rows, "sensorium, wide, no batches", served.port, "wide", body))
    sys.stdout.write("\nserve: answers of one server on this machine, clients on the same cores\n")
    heads = ["", "clients", "answers/s", "p50, ms", "p99, ms", "CPU an answer, ms", "other than 200"]
    print_rows(heads, rows)


def crowd(folder: Path) -> None:
    """Fifty clients for two minutes: three models, arrays, files and pages of the catalog, and a version that changes."""
    catalog = _lake(folder)
    for seed in (1, 2):
        small_cnn.save(catalog, "changing", seed=seed)
    catalog.promote("changing@1", "production")
    catalog.create("photos", modality="image").append(
        {"id": f"{n}", "image": np.roll(_PICTURE, n, 0)} for n in range(20)
    )
    stored = b'{"dataset": "photos", "ids": ["1", "7"]}'
    asked = [
        request("/v1/models/small/predict", _array()),
        request("/v1/models/changing/predict", _array()),
        request("/v1/models/wide/predict", _array()),
        request("/v1/models/small/predict", _png(), "image/png"),
        request("/v1/models/small/predict", stored, "application/json"),
        request("/v1/datasets/photos/samples?limit=5"),
        request("/healthz"),
    ]
    with serving(catalog.storage, ServeOptions(port=0, replicas=(2, 2)), Settings(cpus=2)) as served:
        found, held = asyncio.run(_crowded(served.port, asked, catalog))
    sys.stdout.write("\ncrowd: 50 clients, two minutes, a version changed in the middle\n")
    told = ", ".join(f"{status}: {count}" for status, count in sorted(found.statuses.items()))
    rows = [
        ["answers by status", told],
        ["connections lost", f"{found.lost}"],
        ["answers a second", f"{found.rate:.0f}"],
        ["p50, p99, ms", f"{found.median:.0f}, {found.percentile(0.99):.0f}"],
        ["memory of front and hosts at 30 s and 120 s, MB", f"{held[0]:.0f}, {held[1]:.0f}"],
    ]
    print_rows(["", ""], rows)


async def _crowded(port: int, asked: list[bytes], catalog: Catalog) -> tuple[Load, tuple[float, float]]:
    await load(port, asked, 4, count=100)
    under_way = asyncio.create_task(load(port, asked, 50, seconds=120))
    await asyncio.sleep(30)
    early = memory_of(processes_of(_REPLICAS))
    await asyncio.sleep(15)
    await asyncio.to_thread(catalog.promote, "changing@2", "production")
    found = await under_way
    return found, (early, memory_of(processes_of(_REPLICAS)))


def _lake(folder: Path) -> Catalog:
    os.environ.update(small_cnn.install(folder / "site"))
    sys.path[:0] = os.environ["PYTHONPATH"].split(":")
    catalog = Catalog(folder / "lake")
    small_cnn.save(catalog)
    small_cnn.save(catalog, "wide", small_cnn.Config(width=192))
    return catalog


def _array() -> bytes:
    content = io.BytesIO()
    np.save(content, _PICTURE)
    return content.getvalue()


def _png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(_PICTURE).save(content, "PNG")
    return content.getvalue()


async def _measured(
    rows: list[list[str]], what: str, port: int, name: str, body: bytes, own: tuple[int, ...] = ()
) -> None:
    asked = [request(f"/v1/models/{name}/predict", body)]
    await load(port, asked, 1, count=50)
    for clients, seconds in ((1, 5.0), (16, 6.0)):
        processes = own or tuple(processes_of(_REPLICAS))
        before = cpu_of(processes)
        found = await load(port, asked, clients, seconds=seconds)
        spent = 1e3 * (cpu_of(processes) - before) / len(found.latencies)
        others = sum(count for status, count in found.statuses.items() if status != 200)
        rows.append(
            [what, f"{clients}", f"{found.rate:.0f}", f"{found.median:.2f}", f"{found.percentile(0.99):.2f}",
             f"{spent:.2f}", f"{others + found.lost}"]
        )  # fmt: skip


def _peer(folder: Path, rows: list[list[str]], body: bytes) -> None:
    from sensorium.serve.front import bound

    listening = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    listening.close()
    root = str(Path(__file__).resolve().parents[2])
    process: Any = subprocess.Popen([sys.executable, "-c", _PEER, str(folder / "lake"), str(port), root])
    try:
        for _ in range(200):
            time.sleep(0.1)
            try:
                asyncio.run(_measured(rows, "bare FastAPI, model inside", port, "small", body, (process.pid,)))
                break
            except OSError:
                continue
    finally:
        process.terminate()
        process.wait()
