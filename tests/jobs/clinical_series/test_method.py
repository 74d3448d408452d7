"""Fitting and using clinical_series: nothing leaks from the test part, pools are as collated, bad records are refused."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.importers.physionet2012 import VARIABLES
from sensorium.catalog.importers.physionet2012 import importer as physionet
from sensorium.jobs.clinical_series import comparison, reproduction
from sensorium.jobs.clinical_series.comparison import hidden_variables, look
from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.data import RecordPool, batch_of, checked, preprocess
from sensorium.jobs.clinical_series.example import records
from sensorium.jobs.clinical_series.method import method, probabilities
from sensorium.jobs.clinical_series.ragged import RaggedBatch, collate
from sensorium.jobs.training import fit as fitting
from sensorium.jobs.training.checkpoints import from_bytes
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import FitReport, FitRequest, cross_validate, fit
from sensorium.jobs.training.folds import Split
from sensorium.jobs.training.method import Fitted, load_model
from sensorium.jobs.training.reproduction import Reproduction
from sensorium.platform.errors import InvalidSample, InvalidSetting, UserError
from sensorium.platform.settings import Settings

SMALL: ClinicalConfig = overridden(ClinicalConfig(), method.small)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stays(seed: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return records(SMALL, seed)


def filled(place: Path, samples: list[dict[str, Any]], attributes: Mapping[str, Any]) -> Catalog:
    catalog = Catalog(place)
    catalog.create("stays", modality="series", attributes=attributes).append(samples)
    return catalog


def fitted_on(catalog: Catalog, config: ClinicalConfig = SMALL) -> FitReport:
    return fit(catalog, FitRequest("clinical_series", "stays", config), Settings())


def weights_of(report: FitReport) -> dict[str, torch.Tensor]:
    return from_bytes(report.model.weights(), "the model")[0]


def split_of(report: FitReport) -> Split:
    return Split.read(pl.read_parquet(io.BytesIO(report.model.read("split.parquet"))))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> FitReport:
    return fitted_on(filled(tmp_path_factory.mktemp("stays") / "lake", *stays()), replace(SMALL, graph="affinity"))


@pytest.fixture(scope="module")
def fitted(first: FitReport) -> Fitted:
    return load_model(first.model, "cpu")[1]


# -- leaks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["test", "validation", "train"])
def test_what_is_fitted_is_of_the_training_part(part: str, tmp_path: Path) -> None:
    """Other values in a part: statistics and clusters change with the training part only."""
    samples, attributes = stays()
    config = replace(SMALL, graph="clustered", fit=replace(SMALL.fit, epochs=1, patience=0))
    before = fitted_on(filled(tmp_path / "one", samples, attributes), config)
    theirs = set(getattr(split_of(before), part))
    assert theirs
    random = np.random.default_rng(0)
    changed = [
        {**sample, "values": random.permutation(sample["values"]) * 3 + 1, "age": 20}
        if sample["id"] in theirs
        else sample
        for sample in samples
    ]
    after = fitted_on(filled(tmp_path / "two", changed, attributes), config)
    assert split_of(after) == split_of(before)
    same = after.model.preprocessing == before.model.preprocessing
    assert same == (part != "train")
    if part == "test":
        ours, others = weights_of(before), weights_of(after)
        assert all(torch.equal(ours[name], others[name]) for name in ours)


def test_clusters_are_as_many_as_organs_or_variables(catalog: Catalog) -> None:
    samples, attributes = stays()
    catalog.create("stays", modality="series", attributes=attributes).append(samples)
    found = preprocess(catalog["stays"].select(), replace(SMALL, graph="clustered"))
    assert found["variables"] == attributes["variable_names"]
    assert len(found["groups"]) == 9
    assert sorted(set(found["groups"])) == list(range(8))
    assert len(found["organs"]) == 8


# -- pools ------------------------------------------------------------------------------------------------------------


def same_batch(one: RaggedBatch, other: RaggedBatch) -> bool:
    return all(
        torch.equal(mine.nan_to_num(-99), theirs.nan_to_num(-99)) if isinstance(mine, torch.Tensor) else mine == theirs
        for mine, theirs in ((getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    )


def test_a_batch_of_the_pool_is_as_collated(catalog: Catalog) -> None:
    samples, attributes = stays()
    samples[3] = {name: value for name, value in samples[3].items() if name != "height_cm"}
    catalog.create("stays", modality="series", attributes=attributes).append(samples)
    selection = catalog["stays"].select()
    found = preprocess(selection, SMALL)
    columns = selection.read()
    pool = RecordPool(columns, attributes, SMALL, found)
    by_id = {sample["id"]: sample for sample in samples}
    assert len(pool) == len(samples)
    for chosen in ([5], [3, 0, 17], [2, 2, 1], range(len(samples)), []):
        wanted = [by_id[columns["id"][place]] for place in chosen]
        batch = pool.take(np.array(chosen, dtype=np.int64))
        expected = collate(wanted, 9, found, SMALL.statics)
        assert same_batch(batch["records"], expected)
        assert batch["label"].tolist() == [sample[SMALL.target] for sample in wanted]


def test_samples_without_observations_can_be_taken(make_samples: Any) -> None:
    empty: dict[str, Any] = {"times": [], "variables": [], "values": []}
    samples = [empty, *make_samples(3), empty]
    whole = collate(samples, 6)
    for chosen in ([0], [4, 0], [1, 0, 3], [2, 4, 1]):
        assert same_batch(whole.take(torch.tensor(chosen)), collate([samples[place] for place in chosen], 6))


# -- predictions ------------------------------------------------------------------------------------------------------


def test_hidden_variables_are_as_if_never_observed(fitted: Fitted) -> None:
    samples, attributes = stays(5)
    samples = [{**attributes, **sample} for sample in samples[:4]]
    hidden = (1, 4)
    without = []
    for sample in samples:
        kept = ~np.isin(sample["variables"], hidden)
        without.append({**sample, **{name: sample[name][kept] for name in ("times", "variables", "values")}})
    ours = probabilities(fitted, samples, hidden)
    np.testing.assert_allclose(ours, probabilities(fitted, without), atol=1e-7)
    assert not np.allclose(ours, probabilities(fitted, samples), atol=1e-6)
    everything = probabilities(fitted, samples, range(9))
    assert np.isfinite(everything).all()


def test_hidden_variables_grow_with_the_share() -> None:
    before: set[int] = set()
    for share in comparison.SHARES:
        chosen = hidden_variables(37, share, 1)
        assert len(chosen) == round(37 * share) == len(set(chosen))
        assert before <= set(chosen) <= set(range(37))
        assert chosen == hidden_variables(37, share, 1) != hidden_variables(37, share, 2)
        before = set(chosen)


def test_variables_are_known_by_their_names(fitted: Fitted) -> None:
    """Another order of variables, or fewer of them, is the same record."""
    samples, attributes = stays(5)
    sample = {**attributes, **samples[0]}
    names = attributes["variable_names"]
    turned = {**sample, "variable_names": names[::-1], "variables": len(names) - 1 - sample["variables"]}
    seen = [names[place] for place in sorted(set(sample["variables"].tolist()))]
    fewer = {
        **sample,
        "variable_names": seen,
        "variables": np.array([seen.index(names[v]) for v in sample["variables"]]),
    }
    plain = probabilities(fitted, [sample])
    np.testing.assert_allclose(probabilities(fitted, [turned]), plain, atol=1e-7)
    np.testing.assert_allclose(probabilities(fitted, [fewer]), plain, atol=1e-7)


def test_a_prediction_is_scored(fitted: Fitted) -> None:
    samples, attributes = stays(5)
    sample = {**attributes, **samples[1]}
    (result,) = method.predict(fitted, [sample])
    assert 0 <= result["probability"] <= 1
    assert result["predicted"] == int(result["probability"] >= 0.5)
    row = method.score(fitted, sample, result)
    assert row is not None
    assert (row["label"], row["observations"]) == (1, len(sample["times"]))
    assert row["variables"] == len(set(sample["variables"].tolist()))
    with pytest.raises(InvalidSample, match="must be 0 or 1; got 2"):
        method.score(fitted, {**sample, "in_hospital_death": 2}, result)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"times": None}, "has no 'times'"),
        ({"variable_names": None}, "has no 'variable_names'"),
        ({"values": np.zeros(3, np.float32)}, "field 'values': times, variables and values must be rows of one length"),
        ({"values": np.zeros((2, 2), np.float32)}, "must be rows of one length"),
        ({"times": np.array([0.0, np.nan])}, "field 'times': nan at 1. Leave such observations out"),
        ({"values": np.array([np.inf, 0.0])}, "field 'values': inf at 0"),
        ({"variables": np.array([0, 2])}, "index 2 into 2 variable_names. Repair the indices"),
        ({"variables": np.array([-1, 0])}, "index -1 into 2 variable_names"),
        ({"variable_names": ["HR", "Mood"]}, "the variable 'Mood' is not among the 2 of the training part"),
        ({"age": "old"}, "field 'age': a static feature must be a number; got 'old'"),
    ],
)
def test_bad_records_are_refused(change: dict[str, Any], says: str) -> None:
    sample = {"id": "x", "times": np.array([0.0, 1.0]), "variables": np.array([0, 1]), "values": np.array([80.0, 13.0])}
    names = ["HR", "GCS"]
    sample["variable_names"] = names
    checked(sample, names, SMALL)
    with pytest.raises(InvalidSample, match=says) as caught:
        checked({**sample, **change}, names, SMALL)
    assert "'x'" in str(caught.value)


def test_data_that_cannot_be_learnt_from_is_refused(tmp_path: Path) -> None:
    samples, attributes = stays()
    selection = filled(tmp_path / "one", samples[::2], attributes)["stays"].select()
    with pytest.raises(InvalidSetting, match=r"'in_hospital_death' is always 0\. Both outcomes are needed"):
        preprocess(selection, SMALL)
    odd = [{**sample, "in_hospital_death": 3} for sample in samples]
    selection = filled(tmp_path / "two", odd, attributes)["stays"].select()
    with pytest.raises(InvalidSample, match="must be 0 or 1; got 3"):
        preprocess(selection, SMALL)
    names = [*attributes["variable_names"][:-1], "Mood"]
    selection = filled(tmp_path / "three", samples, {"variable_names": names})["stays"].select()
    with pytest.raises(InvalidSetting, match="no organ is known for the variable 'Mood'"):
        preprocess(selection, SMALL)
    assert preprocess(selection, replace(SMALL, graph="single"))["groups"] == [0] * 9


@pytest.mark.parametrize("architecture", ["mvmformer", "gru_d", "triplet_transformer"])
def test_half_precision(architecture: str, tmp_path: Path) -> None:
    """What accelerators compute in."""
    config = replace(SMALL, architecture=architecture, fit=replace(SMALL.fit, precision="bfloat16"))
    weights = weights_of(fitted_on(filled(tmp_path / "lake", *stays()), config))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


@pytest.mark.parametrize("architecture", ["mvmformer", "gru_d", "triplet_transformer"])
def test_each_architecture_learns_the_made_up_records(architecture: str, catalog: Catalog) -> None:
    attributes = stays()[1]
    samples = [{**sample, "id": f"{seed}-{sample['id']}"} for seed in range(5) for sample in stays(seed)[0]]
    catalog.create("stays", modality="series", attributes=attributes).append(samples)
    config = overridden(SMALL, {"architecture": architecture, "epochs": 15, "lr": 0.005, "validation": 0.2})
    assert fitted_on(catalog, config).figures["auroc"].value > 0.85


# -- the experiment ---------------------------------------------------------------------------------------------------


def test_what_the_experiment_looks_at_in_a_fold(catalog: Catalog) -> None:
    samples, attributes = stays()
    catalog.create("stays", modality="series", attributes=attributes).append(samples)
    asked = FitRequest("clinical_series", "stays", SMALL)
    done = cross_validate(catalog, asked, Settings(), only=(1,), after=look, parallel=False)
    found = done.extras[1]
    by_id = {sample["id"]: sample for sample in samples}
    assert sorted(found.ids) == sorted(done.rows["id"])
    assert found.labels.tolist() == [by_id[name]["in_hospital_death"] for name in found.ids]
    shape = (len(comparison.SHARES), comparison.DRAWS, len(found.ids))
    assert found.hidden.shape == found.trees.hidden.shape == shape
    assert found.trees.plain.shape == shape[2:]
    assert found.graph.measurements.shape == (9 + len(found.graph.organ_names),) * 2
    (predictions, trees) = reproduction._predictions("MVMformer", done, 5).values()
    assert predictions.units.tolist() == trees.units.tolist() == sorted(found.ids)
    assert set(predictions.folds) == {6}
    np.testing.assert_array_equal(trees.probabilities, found.trees.plain[np.argsort(found.ids)])


def test_the_experiment_runs_on_made_up_records(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = reproduction._Scale(
        stays=20,
        folds=(0, 1),
        settings={**method.small, "patience": 0, "folds": 3},
    )
    monkeypatch.setattr(reproduction, "_QUICK", scale)
    monkeypatch.setattr(reproduction, "_REPEATS", 5)
    in_process = cross_validate

    def alone(*given: Any, **named: Any) -> Any:
        return in_process(*given, **named, parallel=False)

    monkeypatch.setattr(fitting, "cross_validate", alone)
    monkeypatch.setattr(reproduction, "ray_session", lambda settings: nullcontext())
    samples, attributes = stays()
    catalog.create("stays", modality="series", attributes=attributes).append(samples)
    finding = reproduction.reproduce(Reproduction(catalog, Settings(cpus=1, object_store_mb=100), True, data="stays"))
    titles = [section.title for section in finding.sections]
    assert len(titles) == 4
    models = finding.sections[0].table
    assert models["model"].to_list() == [
        "MVMformer",
        "MVMformer, series only",
        "GRU-D",
        "triplet Transformer",
        "boosted trees",
    ]
    assert models["AUROC"].is_between(0, 1).all()
    assert [len(section.table) for section in finding.sections[1:]] == [7, 4, 5]
    assert "20 stays" in finding.sections[0].note
    assert set(finding.figures) == {"roc", "precision_recall", "missing", "graph"}
    assert finding.shown.split(".")[0] in ("yes", "no", "in part")


def test_the_experiment_says_where_its_data_comes_from(catalog: Catalog) -> None:
    with pytest.raises(UserError, match="catalog ingest FOLDER --dataset physionet2012 --format physionet2012"):
        reproduction.reproduce(Reproduction(catalog, Settings()))


@pytest.mark.slow
def test_a_short_fit_on_real_records(shared_data: Path, catalog: Catalog) -> None:
    folder = shared_data / "clinical_ts/physionet2012"
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    items = list(physionet.plan(Source(folder)))[:600]
    samples = [{"id": item.id, **item.scalars, **physionet.read(item, {})} for item in items]
    catalog.create("stays", modality="series", attributes={"variable_names": list(VARIABLES)}).append(samples)
    config = overridden(ClinicalConfig(), {"epochs": 4, "lr": 1e-3, "folds": 3, "lengths": ((9.0, 17.0),)})
    report = fitted_on(catalog, config)
    assert report.figures["auroc"].units == 200
    assert report.figures["auroc"].value > 0.65
    assert {"roc.png", "precision_recall.png", "calibration.png", "graph.png"} <= set(report.model.files)
    batch = batch_of([{"variable_names": list(VARIABLES), **samples[0]}], config, report.model.preprocessing)
    assert batch.values.abs().max() < 12
