"""The experiment: what it needs, that its parts see training subjects only, and that its words follow its figures."""

from __future__ import annotations

import contextlib
import functools
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sensorium.catalog import Catalog
from sensorium.catalog.ingest import ingest
from sensorium.jobs.eeg_obesity import comparison, reproduction
from sensorium.jobs.eeg_obesity.comparison import Looked, _Part, classifiers
from sensorium.jobs.eeg_obesity.config import EegConfig
from sensorium.jobs.eeg_obesity.method import method, score_row
from sensorium.jobs.eeg_obesity.simulation import recordings
from sensorium.jobs.training import fit as fitting
from sensorium.jobs.training.fit import cross_validate
from sensorium.jobs.training.method import Fitted
from sensorium.jobs.training.reproduction import Reproduction
from sensorium.platform.errors import InvalidSetting, UserError
from sensorium.platform.settings import Settings

CONFIG = EegConfig(trees=5, boosts=5)


def filled(catalog: Catalog, name: str = "eeg") -> Catalog:
    catalog.create(name, modality="series").append(recordings(CONFIG, 0)[0])
    return catalog


# -- what it needs ----------------------------------------------------------------------------------------------------


def test_without_data_it_says_how_to_get_some(catalog: Catalog, shared_data: Path) -> None:
    """The command of the message works on files of the published data set."""
    with pytest.raises(UserError, match="has no data set 'eegmat'") as caught:
        reproduction.reproduce(Reproduction(catalog, Settings()))
    words = shlex.split(str(caught.value).partition("run: ")[2])
    assert words[:5] == ["sensorium", "catalog", "ingest", "FOLDER", "--dataset"]
    name, options = words[5], dict([words[words.index("--set") + 1].split("=", 1)])
    ingest(catalog, shared_data / "eeg/eegmat/edf", name, words[words.index("--format") + 1], options=options)
    rows = catalog[name].select(fields=["subject", "label"]).frame().sort("id")
    assert rows["subject"].unique().to_list() == ["Subject00"]
    source, classes = reproduction._source(Reproduction(catalog, Settings()))
    assert (source.dataset, classes) == ("eegmat", ["1", "2"])


def test_two_classes_are_needed(catalog: Catalog) -> None:
    samples = recordings(CONFIG, 0)[0]
    samples[0]["label"] = "beta"
    catalog.create("eeg", modality="series").append(samples)
    with pytest.raises(InvalidSetting, match=r"'label' has 3 classes \(alpha, beta, theta\)"):
        reproduction.reproduce(Reproduction(catalog, Settings(), data="eeg"))


# -- one fold ---------------------------------------------------------------------------------------------------------


def part(count: int, seed: int, labels: Any = None) -> _Part:
    """``count`` recordings of three epochs, whose first features say the class."""
    random = np.random.default_rng(seed)
    kinds = np.arange(count) % 2
    features = random.normal(0, 0.3, (3 * count, 40)).astype(np.float32)
    features[:, :5] += 2 * np.repeat(kinds, 3)[:, None]
    own = np.repeat(kinds if labels is None else labels, 3)
    return _Part(features, own, [f"{seed}-{index}" for index in range(count) for _ in range(3)])


FITTED = Fitted(CONFIG, {"classes": ["a", "b"], "epochs": [30, 30]}, {}, torch.device("cpu"))


def test_simple_classifiers_are_those_of_the_paper() -> None:
    found = classifiers(EegConfig(), 0)
    assert list(found) == ["SVM", "3-NN", "random forest", "AdaBoost"]
    assert found["SVM"].get_params()["kernel"] == "rbf"
    assert found["SVM"].get_params()["gamma"] == "auto"  # 1 / number of features
    forest, boosted = found["random forest"].get_params(), found["AdaBoost"].get_params()
    assert (forest["n_estimators"], forest["max_depth"]) == (50, 10)
    assert (boosted["n_estimators"], boosted["learning_rate"]) == (75, 0.88)
    assert classifiers(EegConfig(gamma=0.5, neighbours=1), 0)["SVM"].get_params()["gamma"] == 0.5


def test_simple_classifiers_vote_by_recording_and_know_no_test_label() -> None:
    train, test = part(20, 0), part(6, 1)
    found = comparison._classified(train, test, FITTED)
    for rows in found.values():
        assert [row["id"] for row in rows] == [f"1-{index}" for index in range(6)]
        assert [row["voted"] for row in rows] == [0, 1, 0, 1, 0, 1]
        assert all(row["epochs"] == 3 for row in rows)
    turned = comparison._classified(train, part(6, 1, 1 - np.arange(6) % 2), FITTED)
    for name, rows in turned.items():
        assert [row["voted"] for row in rows] == [row["voted"] for row in found[name]]
        assert [row["label"] for row in rows] == [1, 0, 1, 0, 1, 0]


def test_shuffled_labels_hide_what_features_know() -> None:
    from sensorium.jobs.eeg_obesity.impurity import dichotomy_impurity

    test = part(40, 2)
    known = dichotomy_impurity(test.features, test.labels)
    assert known[:5].mean() < 0.05
    assert comparison._shuffled(test, 0) > known.mean() + 0.02
    assert comparison._shuffled(test, 0) < 0.25


# -- words ------------------------------------------------------------------------------------------------------------


def experiment(vae: float, raw: float, impurities: tuple[float, float]) -> reproduction._Experiment:
    """An experiment with 40 subjects in two folds, where so many votes are right."""

    def rows(share: float) -> pl.DataFrame:
        right = np.arange(40) < share * 40
        entries = []
        for index in range(40):
            label = index % 2
            last = float(label if right[index] else 1 - label)
            row = score_row(label, np.array([[1 - last, last]]))
            entries.append({"id": f"r{index}", "group": f"s{index}", "fold": index // 20, **row})
        return pl.DataFrame(entries)

    def looked(impurity: float) -> list[Looked]:
        values = np.full(8, impurity)
        return [Looked({}, values, values, 0.2, np.zeros((4, 50), np.float32), np.arange(4) % 2, ["r0"] * 4)] * 2

    return reproduction._Experiment(
        source=reproduction.Source("eeg", 1),
        config=CONFIG,
        rows={
            ("VAE features", "1-D CNN"): rows(vae),
            ("raw signals", "1-D CNN"): rows(raw),
            ("EEGNet", "its own"): rows(0.5),
        },
        looked={
            "VAE features": looked(impurities[0]),
            "raw signals": looked(0.2),
            "EEGNet": looked(impurities[1]),
        },
        classes=["a", "b"],
        groups={f"r{index}": f"s{index}" for index in range(40)},
    )


@pytest.mark.parametrize(
    ("vae", "raw", "impurities", "word"),
    [
        (0.95, 0.55, (0.1, 0.2), "yes"),
        (0.95, 0.55, (0.2, 0.1), "in part"),
        (0.55, 0.55, (0.1, 0.2), "in part"),
        (0.55, 0.55, (0.2, 0.1), "no"),
        (0.55, 0.95, (0.2, 0.1), "no"),
        (0.575, 0.55, (0.2, 0.2), "no"),  # one recording more is no difference
    ],
)
def test_the_verdict_follows_the_figures(vae: float, raw: float, impurities: tuple[float, float], word: str) -> None:
    found = experiment(vae, raw, impurities)
    text = reproduction._verdict(found)
    assert text.startswith(f"{word}. ")
    assert f"{vae:.3f} of the recordings" in text
    assert "not obesity" in text
    table = reproduction._difference_table(found)
    assert float(table["recordings right"][0]) == pytest.approx(vae - raw, abs=1e-3)
    assert reproduction._commoner(found) == 0.5


@pytest.mark.slow
def test_the_whole_experiment(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """On made-up data, tiny, in this process."""
    small = {**method.small, "split.folds": 2, "split.validation": 0.5, "boosts": 2, "trees": 3}
    monkeypatch.setattr(reproduction, "_QUICK", small)
    monkeypatch.setattr(reproduction, "ray_session", lambda settings: contextlib.nullcontext())
    monkeypatch.setattr(fitting, "cross_validate", functools.partial(cross_validate, parallel=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    finding = reproduction.reproduce(Reproduction(filled(catalog), Settings(), quick=True, data="eeg"))
    torch.set_num_threads(threads)
    accuracy, difference, impurity = (section.table for section in finding.sections)
    assert accuracy["features"].to_list() == ["VAE features"] * 5 + ["raw signals"] * 5 + ["EEGNet"]
    assert accuracy["paper: subjects"][0] == 0.951
    assert difference.height == 2
    assert impurity["features"].to_list() == ["VAE features", "raw signals", "EEGNet"]
    assert finding.shown.split(".")[0] in ("yes", "no", "in part")
    assert set(finding.figures) == {"tsne", "impurity", "importance", "importance_net"}
    assert all(content.startswith(b"\x89PNG") for content in finding.figures.values())
    assert "not obesity" in finding.sections[0].note
    assert "2 folds (10), batches of" in finding.sections[0].note
    assert [str(source) for source in finding.inputs] == ["eeg@1"]
