"""Fitting and using eeg_obesity: nothing leaks from the test part, phases resume, votes and errors are right."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sensorium.catalog import Catalog
from sensorium.jobs.eeg_obesity import method as eeg
from sensorium.jobs.eeg_obesity.config import CHANNELS, EegConfig
from sensorium.jobs.eeg_obesity.method import method, score_row, summarise, vote
from sensorium.jobs.eeg_obesity.simulation import recordings
from sensorium.jobs.training.checkpoints import from_bytes
from sensorium.jobs.training.configuration import from_json, overridden, to_json
from sensorium.jobs.training.fit import FitReport, FitRequest, fit, resume
from sensorium.jobs.training.folds import Split
from sensorium.jobs.training.method import Fitted, load_model
from sensorium.jobs.training.recipe import Moment, Recipe, Update, Workspace
from sensorium.platform.errors import InvalidSample
from sensorium.platform.settings import Settings

SMALL: EegConfig = overridden(EegConfig(), method.small)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Also for the fits that tests share: sums of two threads are rounded otherwise than those of one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs(seed: int = 0) -> list[dict[str, Any]]:
    """Two recordings of every person, a person's class in both."""
    return [
        {**sample, "id": f"{sample['id']}/{number}"}
        for number in range(2)
        for sample in recordings(SMALL, seed + number)[0]
    ]


def filled(place: Path, samples: list[dict[str, Any]]) -> Catalog:
    catalog = Catalog(place)
    catalog.create("eeg", modality="series").append(samples)
    return catalog


def fitted_on(catalog: Catalog, config: EegConfig = SMALL) -> FitReport:
    return fit(catalog, FitRequest("eeg_obesity", "eeg", config), Settings())


def weights_of(report: FitReport) -> dict[str, torch.Tensor]:
    return from_bytes(report.model.weights(), "the model")[0]


def split_of(report: FitReport) -> Split:
    return Split.read(pl.read_parquet(io.BytesIO(report.model.read("split.parquet"))))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> FitReport:
    """A fit on two recordings of each of eight people, with two epochs of each phase."""
    catalog = filled(tmp_path_factory.mktemp("eeg") / "lake", pairs())
    config = overridden(SMALL, {"vae_fit.epochs": 2, "fit.epochs": 2, "fit.batch_size": 32})
    return fitted_on(catalog, config)


@pytest.fixture(scope="module")
def fitted(first: FitReport) -> Fitted:
    return load_model(first.model, "cpu")[1]


# -- leaks ------------------------------------------------------------------------------------------------------------


def test_nothing_is_learnt_from_the_test_part(first: FitReport, tmp_path: Path) -> None:
    """Other signals in the test part: the same statistics, the same autoencoder, the same classifier."""
    test = set(split_of(first).test)
    changed = [
        {**sample, "signal": sample["signal"][::-1] * 7} if sample["id"] in test else sample for sample in pairs()
    ]
    config = from_json(EegConfig, first.model.configuration)
    again = fitted_on(filled(tmp_path / "lake", changed), config)
    assert split_of(again) == split_of(first)
    assert again.model.preprocessing == first.model.preprocessing
    ours, theirs = weights_of(first), weights_of(again)
    assert {name.partition("/")[0] for name in ours} == {"vae", "classifier"}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_training_part_does_matter(first: FitReport, tmp_path: Path) -> None:
    """The test above could not fail if signals had no influence at all."""
    train = set(split_of(first).train)
    changed = [{**sample, "signal": sample["signal"] * 7} if sample["id"] in train else sample for sample in pairs()]
    again = fitted_on(filled(tmp_path / "lake", changed), from_json(EegConfig, first.model.configuration))
    assert again.model.preprocessing != first.model.preprocessing
    assert not torch.equal(weights_of(again)["classifier/dense.weight"], weights_of(first)["classifier/dense.weight"])


def test_the_autoencoder_does_not_see_classes(first: FitReport, tmp_path: Path) -> None:
    other = {"alpha": "theta", "theta": "alpha"}
    swapped = [{**sample, "label": other[sample["label"]]} for sample in pairs()]
    again = fitted_on(filled(tmp_path / "lake", swapped), from_json(EegConfig, first.model.configuration))
    assert split_of(again) == split_of(first)
    ours, theirs = weights_of(first), weights_of(again)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("vae/"))
    assert not torch.equal(ours["classifier/dense.bias"], theirs["classifier/dense.bias"])


def test_a_subject_is_on_one_side_only(first: FitReport) -> None:
    split = split_of(first)
    people = [{name.partition("/")[0] for name in getattr(split, part)} for part in ("train", "validation", "test")]
    assert all(people)
    assert len(set.union(*people)) == 8 == sum(len(part) for part in people)
    test = [name for name in split.test if int(name[7:9]) % 2]
    assert 2 * len(test) == len(split.test)  # as many of each class


# -- phases -----------------------------------------------------------------------------------------------------------


def _lost_after(steps: int) -> Any:
    """A classifier's recipe whose step fails after so many steps."""
    real = eeg._classifier_recipe

    def recipe(space: Workspace) -> Recipe:
        made = real(space)
        step = made.step

        def failing(batch: Any, moment: Moment, update: Update) -> Mapping[str, torch.Tensor]:
            if moment.step >= steps:
                raise ConnectionError("lost")
            return step(batch, moment, update)

        return replace(made, step=failing)

    return recipe


@pytest.mark.parametrize("steps", [0, 3])
def test_a_lost_fit_goes_on(steps: int, first: FitReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost behind the first phase, or within the second: the weights are those of a fit that was not lost."""
    config = overridden(from_json(EegConfig, first.model.configuration), {"fit.checkpoint_steps": 1})
    catalog = filled(tmp_path / "lake", pairs())
    with monkeypatch.context() as patch:
        patch.setattr(eeg, "_classifier_recipe", _lost_after(steps))
        with pytest.raises(ConnectionError, match="lost"):
            fitted_on(catalog, config)
    run = catalog.runs().filter(pl.col("state") == "failed")["run"][0]

    def never(space: Workspace) -> Recipe:
        raise AssertionError("the first phase is done")

    monkeypatch.setattr(eeg, "_vae_recipe", never)
    again = resume(catalog, run, Settings())
    ours, theirs = weights_of(first), weights_of(again)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.outcome.steps == first.outcome.steps


def test_the_encoder_is_frozen_in_the_second_phase(tmp_path: Path) -> None:
    catalog = filled(tmp_path / "lake", pairs())
    short, long = (
        weights_of(fitted_on(catalog, overridden(SMALL, {"fit.epochs": epochs, "fit.patience": 0})))
        for epochs in (1, 3)
    )
    assert all(torch.equal(short[name], long[name]) for name in short if name.startswith("vae/"))
    assert not torch.equal(short["classifier/dense.weight"], long["classifier/dense.weight"])


@pytest.mark.parametrize(("architecture", "accuracy"), [("vae_cnn", 1.0), ("cnn", 1.0), ("eegnet", 1.0)])
def test_each_architecture_learns_a_rhythm(architecture: str, accuracy: float, tmp_path: Path) -> None:
    catalog = filled(tmp_path / "lake", pairs())
    settings = {"architecture": architecture, "vae_fit.epochs": 3, "fit.epochs": 25, "fit.batch_size": 32}
    config = overridden(SMALL, {**settings, "fit.lr": 0.003})
    report = fitted_on(catalog, config)
    assert report.figures["recording_accuracy"].value == accuracy
    assert report.figures["recording_accuracy"].units == 2  # people, not recordings
    assert {"recordings.png", "confusion.png"} <= set(report.model.files)


def test_half_precision(tmp_path: Path) -> None:
    """What accelerators compute in; losses and votes stay in float32."""
    half = {"vae_fit.precision": "bfloat16", "fit.precision": "bfloat16"}
    report = fitted_on(filled(tmp_path / "lake", pairs()), overridden(SMALL, half))
    weights = weights_of(report)
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in weights.values())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


# -- predictions ------------------------------------------------------------------------------------------------------


def test_votes() -> None:
    assert vote(np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])) == 1
    assert vote(np.array([[0.9, 0.1], [0.4, 0.6]])) == 0  # of equally many votes, the surer one
    assert vote(np.array([[0.4, 0.6], [0.51, 0.49]])) == 1
    assert vote(np.array([[0.2, 0.3, 0.5]])) == 2


def test_a_prediction_is_the_vote_of_its_epochs(fitted: Fitted) -> None:
    samples = pairs(seed=5)[:3]
    for sample, result in zip(samples, method.predict(fitted, samples), strict=True):
        probabilities = result["probabilities"]
        assert probabilities.shape == (10, 2)
        assert probabilities.dtype == np.float32
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(10), abs=1e-5)
        classes = fitted.preprocessing["classes"]
        assert result["predicted"] == classes[vote(probabilities)]
        assert result["agreement"] == np.mean(probabilities.argmax(axis=1) == classes.index(result["predicted"]))
        row = method.score(fitted, sample, result)
        assert row is not None
        assert row["epochs"] == 10 == sum(row["confusion"])
        assert row["label"] == classes.index(sample["label"])
    assert method.score(fitted, {"id": "x"}, result) is None
    assert method.score(fitted, {"id": "x", "label": "delta"}, result) is None


def test_a_recording_is_predicted_alike_whatever_is_beside_it(fitted: Fitted) -> None:
    """Other order and rate of channels, other samples at the same time."""
    sample = pairs(seed=5)[0]
    turned = {**sample, "signal": sample["signal"][::-1], "channels": [f"EEG {name}" for name in CHANNELS[::-1]]}
    alone = method.predict(fitted, [sample])[0]["probabilities"]
    beside = method.predict(fitted, [pairs(seed=6)[1], turned])[1]["probabilities"]
    assert beside == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channels": [f"X{index}" for index in range(19)]}, "electrode Fp1 is missing among its 19 channels"),
        ({"channels": list(CHANNELS[:18])}, "needs C names"),
        ({"channels": None}, "has no 'channels'"),
        ({"sampling_rate": None}, "has no 'sampling_rate'"),
        ({"signal": None}, "has no 'signal'"),
        ({"sampling_rate": 80.0}, "holds nothing up to 45 Hz"),
        ({"signal": np.full((19, 3840), np.nan, np.float32)}, "electrode Fp1 is nan at 0 s"),
        ({"signal": np.zeros((19, 3840), np.float32)}, "electrode Fp1 is flat"),
        ({"signal": np.ones((19, 700), np.float32)}, "are too short"),
        ({"signal": np.ones(3840, np.float32)}, "got shape"),
    ],
)
def test_what_cannot_be_predicted_is_named(fitted: Fitted, change: dict[str, Any], says: str) -> None:
    sample = {**recordings(SMALL, 0)[0][2], **change}
    with pytest.raises(InvalidSample, match=f"sample 'person-02'.*{says}"):
        method.predict(fitted, [sample])


# -- figures ----------------------------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    def probabilities(*last: float) -> np.ndarray:
        return np.array([[1 - value, value] for value in last])

    rows = pl.DataFrame(
        [
            {"group": "a", **score_row(0, probabilities(0.1, 0.2, 0.9))},  # two of three right, vote right
            {"group": "a", **score_row(1, probabilities(0.8))},  # right
            {"group": "b", **score_row(0, probabilities(0.6, 0.7, 0.8))},  # none
            {"group": "b", **score_row(1, probabilities(0.9))},  # right
        ]
    )
    found = summarise(rows, SMALL)
    assert found["recording_accuracy"].value == 0.75
    assert found["recording_balanced_accuracy"].value == 0.75
    assert found["epoch_accuracy"].value == pytest.approx(4 / 8)
    assert found["epoch_balanced_accuracy"].value == pytest.approx((2 / 6 + 1) / 2)
    assert found["recording_auroc"].value == 1
    assert {figure.units for figure in found.values()} == {2}
    assert found["recording_accuracy"].low == 0.5
    assert found["recording_accuracy"].high == 1


def test_three_classes(tmp_path: Path) -> None:
    """The networks have an output for each then, and no area under the ROC."""
    samples = [*pairs(), *({**sample, "id": f"{sample['id']}-more", "subject": f"{sample['subject']}-more",
                            "label": "beta", "signal": sample["signal"][:, ::-1]} for sample in pairs()[:8])]  # fmt: skip
    report = fitted_on(filled(tmp_path / "lake", samples))
    assert weights_of(report)["classifier/dense.bias"].shape == (3,)
    assert "recording_auroc" not in report.figures
    result = method.predict(load_model(report.model, "cpu")[1], samples[:1])[0]
    assert result["probabilities"].shape == (10, 3)


def test_latent_features(tmp_path: Path) -> None:
    config = overridden(SMALL, {"latent": 32, "features": "latent"})
    report = fitted_on(filled(tmp_path / "lake", pairs()), config)
    assert weights_of(report)["classifier/convolutions.0.weight"].shape == (8, 1, 64)
    fitted = load_model(report.model, "cpu")[1]
    export = method.export
    assert export is not None
    wanted = export(fitted)
    epochs = torch.randn(4, 19, 320)
    with torch.no_grad():
        logits = fitted.modules["classifier"](fitted.modules["vae"].features(epochs, "latent"))
        assert torch.allclose(wanted.module(epochs)[:, 1:], torch.sigmoid(logits), atol=1e-6)


@pytest.mark.parametrize("architecture", ["vae_cnn", "cnn", "eegnet"])
def test_a_configuration_survives_being_stored(architecture: str) -> None:
    config = overridden(EegConfig(), {"architecture": architecture, "vae_fit.lr": "1e-4", "channels": "O1,O2,Pz,Cz"})
    assert config.vae_fit.lr == 1e-4
    assert config.fit.lr == 1e-3
    assert from_json(EegConfig, to_json(config)) == config


@pytest.mark.slow
def test_real_eeg(shared_data: Path, tmp_path: Path) -> None:
    """Ten people at rest and in mental arithmetic, through import, fit and prediction."""
    from sensorium.catalog.ingest import ingest

    catalog = Catalog(tmp_path / "lake")
    folder = tmp_path / "npz"
    folder.mkdir()
    for path in sorted((shared_data / "eeg/eegmat/npz125").glob("*.npz"))[:10]:
        (folder / path.name).symlink_to(path)
    options = {
        "signal": "rest,task",
        "scale": "scale_uV",
        "label_from": "member",
        "pattern": r"(?P<subject>Subject\d+)",
    }
    ingest(catalog, folder, "eeg", format="npz", options=options)
    settings = {"vae_fit.epochs": 1, "fit.epochs": 2, "most_epochs": 2, "split.folds": 5, "split.validation": 0.25}
    report = fitted_on(catalog, overridden(EegConfig(), settings))
    assert report.model.preprocessing["classes"] == ["rest", "task"]
    assert report.figures["recording_accuracy"].units == 2
    assert all(1 < value < 50 for value in report.model.preprocessing["deviation"])  # µV
    result = method.predict(load_model(report.model, "cpu")[1], [dict(catalog["eeg"].select()[0])])
    assert result[0]["probabilities"].shape == (2, 2)
