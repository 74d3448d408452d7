"""Models in the catalog: versions, stages, and what happens when something is wrong."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import safetensors.numpy

from sensorium.catalog import Catalog
from sensorium.catalog.declaration import Source
from sensorium.catalog.lineage import Record, Run
from sensorium.catalog.models import ModelDraft
from sensorium.platform.errors import (
    CorruptData,
    InvalidName,
    InvalidSample,
    StorageError,
    UnknownModel,
    UnknownVersion,
)

WEIGHTS = safetensors.numpy.save({"layer": np.arange(6, dtype=np.float32)})


def draft(name: str = "net", **more: Any) -> ModelDraft:
    content = {"weights": WEIGHTS, "configuration": {"lr": 0.1}, **more}
    return ModelDraft(name=name, system="toy", **content)


def test_a_model_comes_back_as_it_was_saved(catalog: Catalog) -> None:
    saved = catalog.save_model(
        draft(
            preprocessing={"mean": [1.5]},
            metrics={"accuracy": {"value": 0.9}},
            environment={"torch": "2"},
            sources=(Source("waves", 3),),
            run="run-1",
            parameters=6,
            files={"curve.png": b"\x89PNG"},
        )
    )
    found = catalog.model("net")
    assert found == saved
    assert (found.reference, found.run, found.parameters, found.nbytes) == ("net@1", "run-1", 6, len(WEIGHTS))
    assert found.configuration == {"lr": 0.1}
    assert found.preprocessing == {"mean": [1.5]}
    assert found.sources == (Source("waves", 3),)
    assert found.weights() == WEIGHTS
    assert found.read("curve.png") == b"\x89PNG"
    assert pickle.loads(pickle.dumps(found)).weights() == WEIGHTS
    row = catalog.models().row(0, named=True)
    assert (row["name"], row["version"], row["bytes"]) == ("net", 1, len(WEIGHTS))


def test_names_count_by_themselves(catalog: Catalog) -> None:
    assert [catalog.save_model(draft(name)).reference for name in ("a", "b", "a", "a")] == ["a@1", "b@1", "a@2", "a@3"]
    assert catalog.model("a").version == 3
    assert catalog.model("a@2").version == 2
    assert catalog.model("models/b").reference == "b@1"


def test_many_at_once_get_a_number_each(catalog: Catalog) -> None:
    with ThreadPoolExecutor(6) as pool:
        saved = list(pool.map(lambda _: Catalog(catalog.storage.root).save_model(draft()), range(12)))
    assert sorted(model.version for model in saved) == list(range(1, 13))
    assert catalog.models().height == 12


def test_a_stage_names_one_version(catalog: Catalog) -> None:
    for _ in range(3):
        catalog.save_model(draft())
    catalog.save_model(draft("other"))
    assert catalog.promote("net@1", "production").stages == ("production",)
    catalog.promote("net@1", "best")
    catalog.promote("other", "production")
    assert catalog.promote("net@3", "production").stages == ("production",)
    assert catalog.model("net@production").version == 3
    assert catalog.model("net@1").stages == ("best",)
    assert catalog.model("other@production").version == 1
    assert catalog.model("net@3").weights() == WEIGHTS
    with pytest.raises(InvalidName):
        catalog.promote("net@1", "not a name")


@pytest.mark.parametrize(
    ("reference", "error", "says"),
    [
        ("nett", UnknownModel, "has no model 'nett'. Did you mean 'net'?"),
        ("net@7", UnknownVersion, "has no version or stage '7'; it has 1 to 2, and the stages live"),
        ("net@test", UnknownVersion, "has no version or stage 'test'"),
    ],
)
def test_unknown_ones_are_told(catalog: Catalog, reference: str, error: type[Exception], says: str) -> None:
    catalog.save_model(draft())
    catalog.save_model(draft())
    catalog.promote("net", "live")
    with pytest.raises(error) as caught:
        catalog.model(reference)
    assert says in str(caught.value)


def test_an_empty_lake_says_how_to_begin(catalog: Catalog) -> None:
    assert catalog.models().is_empty()
    with pytest.raises(UnknownModel, match="There are none yet: fit one with sensorium fit"):
        catalog.model("net")


@pytest.mark.parametrize("weights", [b"", pickle.dumps({"a": 1}), b"PK\x03\x04 a zip of pickles", b"\xff" * 64])
def test_only_safetensors_are_taken(catalog: Catalog, weights: bytes) -> None:
    with pytest.raises(InvalidSample, match=r"no safetensors file.*pickles"):
        catalog.save_model(draft(weights=weights))
    assert catalog.models().is_empty()


def test_damaged_and_lost_files_are_told(catalog: Catalog) -> None:
    model = catalog.save_model(draft(files={"curve.png": b"x"}))
    folder = Path(model.storage.at_path("files", model.folder))
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(content))
    with pytest.raises(CorruptData, match=r"model net@1: its weights in .* are not those that were saved"):
        catalog.model("net").weights()
    (folder / "curve.png").unlink()
    with pytest.raises(CorruptData, match=r"its file 'curve\.png' is not in"):
        catalog.model("net").read("curve.png")


def test_a_crash_before_the_commit_leaves_nothing_to_be_seen(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.catalog import models

    catalog.save_model(draft())

    def crash(*arguments: Any, **more: Any) -> int:
        raise StorageError("the disk is full")

    monkeypatch.setattr(models.Dataset, "append", crash)
    with pytest.raises(StorageError):
        catalog.save_model(draft())
    monkeypatch.undo()
    assert catalog.models().height == 1
    assert catalog.save_model(draft()).version == 2


def test_lineage_goes_through_models(catalog: Catalog) -> None:
    waves = catalog.create("waves", modality="table")
    waves.append([{"id": "a", "x": 1}])
    model = catalog.save_model(draft(sources=(Source("waves", 1),), run="run-1"))
    found = catalog.create("found", modality="table", sources=(Source("waves", 1), model.source))
    found.append([{"id": "a", "y": 2}], sources=(Source("waves", 1), model.source))
    upstream = catalog.lineage("found").filter(pl.col("direction") == "upstream")
    assert set(upstream["made_from"]) == {"waves", "models/net"}
    downstream = catalog.lineage("net").filter(pl.col("direction") == "downstream")
    assert set(downstream["dataset"]) == {"found"}
    assert catalog.lineage("models/net").equals(catalog.lineage("net"))


# -- runs -------------------------------------------------------------------------------------------------------------


def test_curves_of_a_run_are_kept_and_repeated_steps_count_once(catalog: Catalog) -> None:
    run = Run("fit", "toy", {})
    catalog.record(run, [Record(1, "loss", 0.9), Record(2, "loss", 0.8)])
    catalog.record(run, [Record(2, "loss", 0.7), Record(3, "loss", 0.6)])
    catalog.record(run.ended("finished", metrics={"accuracy": 0.5}, files=["reports/a.png"]))
    records = catalog.records(run.id)
    assert records.select("step", "value").rows() == [(1, 0.9), (2, 0.7), (3, 0.6)]
    (row,) = catalog.runs().to_dicts()
    assert (row["state"], row["metrics"], row["files"]) == ("finished", '{"accuracy": 0.5}', ["reports/a.png"])
    assert catalog.records("another").is_empty()


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt(), "stopped"), (OSError("no space left"), "failed"), (None, "running")]
)
def test_a_run_that_is_interrupted_is_no_failure(catalog: Catalog, error: BaseException | None, state: str) -> None:
    with suppress(KeyboardInterrupt, OSError), catalog.running(Run("sweep", "it", {})):
        if error is not None:
            raise error
    assert catalog.runs()["state"].to_list() == [state]


def test_a_table_of_runs_of_an_older_version_is_read_and_grown(catalog: Catalog) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    from sensorium.catalog import lineage

    old = pa.schema([column for column in lineage._SCHEMA if column.name not in ("metrics", "files", "records")])
    row = dict.fromkeys(old.names, "x") | {"time": lineage.datetime.now(lineage.UTC), "inputs": [], "outputs": []}
    write_deltalake(catalog.storage.at_path("runs"), pa.Table.from_pylist([row], schema=old))
    assert catalog.runs()["run"].to_list() == ["x"]
    assert catalog.records("x").is_empty()
    run = Run("fit", "toy", {})
    catalog.record(run, [Record(1, "loss", 0.9)])
    assert set(catalog.runs()["run"]) == {"x", run.id}
    assert catalog.records(run.id)["value"].to_list() == [0.9]
