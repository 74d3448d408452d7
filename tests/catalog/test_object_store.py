"""The lake on an S3-compatible store over HTTP: the same catalog, commits by many processes, credentials, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sensorium.catalog import Catalog, Dataset
from sensorium.platform.errors import InvalidSetting, MissingCredentials, StorageError
from tests.catalog.racing import expected
from tests.object_store import BUCKET, KEY, REGION, SECRET, Store, running

_RACING = Path(__file__).with_name("racing.py")
_WRITERS, _COMMITS = 3, 5


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with running() as store:
        yield store


@pytest.fixture(autouse=True)
def _found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def lake(store: Store) -> Iterator[str]:
    yield f"s3://{BUCKET}/{uuid.uuid4().hex}"
    store.trouble()


@pytest.fixture
def photos(lake: str) -> Dataset:
    return Catalog(lake).create("photos", modality="image")


def image(seed: int, height: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, 6, 3), dtype=np.uint8)


def samples(*seeds: int, heights: int = 1) -> list[dict[str, Any]]:
    return [{"id": f"s{seed:03d}", "image": image(seed, 8 + seed % heights), "label": seed % 3} for seed in seeds]


def child(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str], limit: float = 100) -> str:
    told, errors = process.communicate(timeout=limit)
    assert process.returncode == 0, errors
    return told


# -- the catalog ------------------------------------------------------------------------------------------------------


def test_of_many_who_put_one_object_one_wins(store: Store) -> None:
    """What commits rest on; moto alone would look first and write then."""
    import boto3

    place = {"endpoint_url": store.address, "region_name": REGION}
    clients = [boto3.client("s3", aws_access_key_id=KEY, aws_secret_access_key=SECRET, **place) for _ in range(6)]

    def put(number: int) -> list[int]:
        client, won = clients[number], []
        for key in range(20):
            try:
                client.put_object(Bucket=BUCKET, Key=f"race/{key}", Body=b"%d" % number, IfNoneMatch="*")
            except client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "PreconditionFailed":
                    raise
            else:
                won.append(key)
        return won

    with ThreadPoolExecutor(len(clients)) as pool:
        won = list(pool.map(put, range(len(clients))))
    assert sorted(key for keys in won for key in keys) == list(range(20))
    held = {key: clients[0].get_object(Bucket=BUCKET, Key=f"race/{key}")["Body"].read() for key in range(20)}
    assert all(held[key] == b"%d" % number for number, keys in enumerate(won) for key in keys)


def test_samples_are_what_was_written(photos: Dataset, lake: str) -> None:
    photos.append(samples(*range(6), heights=2))
    again = Catalog(lake)["photos"].select(order="id")
    for seed, sample in enumerate(again):
        np.testing.assert_array_equal(sample["image"], image(seed, 8 + seed % 2))
    assert [array.shape for array in again.dask("image")] == [(8 + seed % 2, 6, 3) for seed in range(6)]
    assert photos.select("label = 1").frame()["id"].to_list() == ["s001", "s004"]
    assert Catalog(lake).sql("SELECT count(*) AS n FROM photos WHERE label = 0")["n"].to_list() == [2]
    listed = Catalog(lake).datasets().row(0, named=True)
    assert (listed["name"], listed["samples"], listed["version"]) == ("photos", 6, 1)
    assert photos.verify().is_empty()


def test_a_stream_has_every_sample_once(photos: Dataset) -> None:
    photos.append(samples(*range(10)))
    stream = photos.select().torch(["image"], batch_size=4, shuffle=True, seed=3)
    seen = [name for batch in stream for name in batch["id"]]
    assert sorted(seen) == [f"s{seed:03d}" for seed in range(10)]


def test_versions_tags_and_changes(photos: Dataset, lake: str) -> None:
    first = photos.append(samples(*range(4)))
    photos.tag("kept")
    photos.update([{"id": "s001", "label": 7}])
    photos.delete("id = 's002'")
    newest = Catalog(lake)["photos"]
    assert newest.select("label = 7").frame()["id"].to_list() == ["s001"]
    assert len(newest) == 3
    assert len(Catalog(lake).dataset("photos", "kept")) == len(Catalog(lake).dataset("photos", first)) == 4
    changed = newest.diff(first, newest.version)
    assert set(changed["id"]) == {"s001", "s002"}
    assert [commit for commit in newest.history()["operation"] if commit in ("append", "update", "delete")]


def test_a_vacuum_leaves_what_is_needed(photos: Dataset) -> None:
    photos.append(samples(*range(4)))
    photos.append(samples(*range(4, 8)))
    photos.delete("id = 's001'")
    assert photos.compact() > 0
    before = set(photos.storage.folders("fragments"))
    photos.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
    left = set(photos.storage.folders("fragments"))
    assert left < before
    assert left == {row["fragment"] for row in photos.select().rows["image"]}
    assert photos.verify().is_empty()
    assert len(photos) == 7


@pytest.mark.slow
def test_processes_append_at_once(photos: Dataset, lake: str) -> None:
    writers = [child(_RACING, "write", lake, number, _COMMITS, "durable") for number in range(_WRITERS)]
    commits = [json.loads(line) for writer in writers for line in output(writer).splitlines()]
    assert len({line["version"] for line in commits}) == _WRITERS * _COMMITS, "two commits were given one version"
    told = [name for line in commits for name in line["ids"]]
    held = {sample.id: sample["image"] for sample in photos.select()}
    assert len(photos) == len(held)
    assert sorted(held) == sorted(told)
    for name, array in held.items():
        np.testing.assert_array_equal(array, expected(name))


# -- a store in trouble -----------------------------------------------------------------------------------------------


def test_requests_that_fail_or_wait_lose_nothing(photos: Dataset, store: Store) -> None:
    store.trouble(fail_every=10, stall_every=25, stall_s=0.2)
    versions = [photos.append(samples(*range(begin, begin + 3))) for begin in range(0, 9, 3)]
    found = sorted(photos.select().frame()["id"])
    counted = store.trouble()
    assert counted["failed"] > 3
    assert counted["stalled"] > 1
    assert len(set(versions)) == 3
    assert found == [f"s{seed:03d}" for seed in range(9)]
    assert photos.verify().is_empty()


def test_a_commit_whose_answer_is_lost_is_made_once(photos: Dataset, store: Store) -> None:
    """The store did what it was asked to, and said that it failed: the writer looks before it commits again."""
    lost = 0
    for begin in range(0, 9, 3):
        store.trouble(lose_every=7)
        photos.append(samples(*range(begin, begin + 3)))
        lost += store.trouble()["lost"]
    assert lost > 3
    frame = photos.select().frame()
    assert sorted(frame["id"]) == [f"s{seed:03d}" for seed in range(9)]
    assert photos.verify().is_empty()
    assert sum(photos.history()["operation"] == "append") == 3


# -- who may ----------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_told(lake: str, photos: Dataset) -> None:
    stranger = Catalog(lake, options={"key": "somebody", "secret": "else"})
    for action in (
        stranger.datasets,
        lambda: stranger["photos"],
        lambda: stranger.create("others", modality="image"),
    ):
        with pytest.raises(MissingCredentials, match=r"credentials"):
            action()


def test_delta_is_refused_in_the_same_words(lake: str, photos: Dataset) -> None:
    table = Catalog(lake, options={"key": "somebody", "secret": "else"})._table("photos")
    with pytest.raises(MissingCredentials, match="Give credentials by the usual environment variables"):
        table.open()


def test_no_such_bucket_is_told_and_none_is_made(store: Store) -> None:
    nowhere = Catalog("s3://no-such-bucket/lake")
    for _ in range(2):
        for action in (nowhere.datasets, lambda: nowhere["x"], lambda: nowhere.create("x", modality="image")):
            with pytest.raises(InvalidSetting, match="there is no bucket 'no-such-bucket'"):
                action()


@pytest.mark.slow
def test_a_store_that_is_down_is_told() -> None:
    with running() as store:
        options = {"endpoint_url": store.address, "client_kwargs": {"region_name": REGION}}
        options["config_kwargs"] = {"retries": {"max_attempts": 1}}  # else botocore and s3fs try for ten seconds
        catalog = Catalog(f"s3://{BUCKET}/lake", options=options)
        photos = catalog.create("photos", modality="image")
        store.stop()
        for action in (catalog.datasets, lambda: photos.select().frame()):
            with pytest.raises(StorageError, match=r"does not answer.*nothing was committed"):
                action()


# -- jobs, with credentials of a profile ------------------------------------------------------------------------------

_JOBS = """
import json, sys
import numpy as np
from sensorium.catalog import Catalog
from sensorium.jobs.machine_quality.config import SweepConfig
from sensorium.jobs.machine_quality.sweep import plan_sweep, run_sweep
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import FitRequest, fit
from sensorium.jobs.training.prediction import predict
from sensorium.jobs.water_pollutants import simulator
from sensorium.jobs.water_pollutants.config import WaterConfig
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings

settings = Settings(cpus=1, object_store_mb=200)
catalog = Catalog(sys.argv[1])
chance = np.random.default_rng(0)
photos = catalog.create("photos", modality="image")
photos.append([{"id": f"p{n}", "image": chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)} for n in range(2)])
catalog.create("water", modality="series", fields=list(simulator.FIELDS)).append(
    simulator.samples(liquids=("ammonia", "hydrochloric_acid"), measurements=4)
)
tiny = ["network=rnn", "optimiser=adam", "stride=60", "epochs=1", "folds=4", "validation=0.34"]
config = SweepConfig(data="photos", into="rd", qualities={"jpeg": (20, 80)}, metrics=("psnr",))
fitted = fit(catalog, FitRequest("water_pollutants", "water", overridden(WaterConfig(), tiny)), settings)
with ray_session(settings):
    swept = [run_sweep(catalog, plan_sweep(catalog, config)).computed for _ in range(2)]
    found = predict(catalog, fitted.model.reference, "water", "found", settings)
print(json.dumps({"swept": swept, "model": fitted.model.reference, "computed": found.computed, "errors": found.errors}))
"""


@pytest.mark.slow
def test_jobs_find_the_store_by_a_profile(lake: str, store: Store, tmp_path: Path) -> None:
    """A sweep, a fit and a prediction; the key, the region and the endpoint are in the usual files, and nowhere else."""
    (tmp_path / "config").write_text(f"[profile laboratory]\nregion = {REGION}\nendpoint_url = {store.address}\n")
    (tmp_path / "credentials").write_text(
        f"[laboratory]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "AWS_PROFILE": "laboratory",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _JOBS, lake], env=environment, capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"swept": [4, 0], "model": "water_pollutants@1", "computed": 8, "errors": 0}
    catalog = Catalog(lake)
    assert catalog["rd"].select().frame().height == 4
    assert sorted(catalog["found"].select().frame()["id"]) == sorted(catalog["water"].select().frame()["id"])
    assert set(catalog.runs().filter(pl.col("state") == "finished")["kind"]) == {"fit", "sweep", "predict"}
