"""The experiment behind clinical_series's claim: rivals, ablations and missing variables, on the same folds.

Every network is fitted by the same machinery with the same statistics, folds, stopping and seeds; boosted trees are fitted
in the tasks of MVMformer's folds, on the same training parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Source
from sensorium.jobs.clinical_series import drawing
from sensorium.jobs.clinical_series.comparison import DRAWS, SHARES, Looked, look
from sensorium.jobs.clinical_series.config import STATICS, ClinicalConfig
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import CrossValidation, FitRequest
from sensorium.jobs.training.measures import Figure, Statistic, Weights, auprc, auroc, with_intervals
from sensorium.jobs.training.method import png
from sensorium.jobs.training.reproduction import Finding, Reproduction, Section
from sensorium.platform.errors import UserError
from sensorium.platform.session import ray_session

__all__ = ["CLAIM", "DATASET", "reproduce"]

DATASET = "physionet2012"
CLAIM = (
    "MVMformer predicts death in hospital better than its rivals, each of its units adds to that, and it is the most robust "
    "when variables are missing."
)
_OURS, _PLAIN, _TREES = "MVMformer", "MVMformer, series only", "boosted trees"
_AREAS = {"AUROC": auroc, "AUPRC": auprc}
#: settings by name; what they are compared with is MVMformer
_MODELS: Mapping[str, Mapping[str, Any]] = {
    _OURS: {},
    "GRU-D": {"architecture": "gru_d"},
    "triplet Transformer": {"architecture": "triplet_transformer"},
}
_VANILLA = {"attention": "vanilla", "multi_scale": False}
_NO_UNITS = {"value_unit": False, "density_unit": False}
_TABLE_3: Mapping[str, Mapping[str, Any]] = {
    "without the density unit": {"density_unit": False},
    "without the value unit": {"value_unit": False},
    "without both units": _NO_UNITS,
    "without both, one scale": {**_NO_UNITS, "multi_scale": False},
    "vanilla attention": _VANILLA,
    "vanilla attention, without both": {**_VANILLA, **_NO_UNITS},
}
_TABLE_4: Mapping[str, Mapping[str, Any]] = {
    "one level, all learned": {"graph": "single"},
    "one level, organs": {"graph": "affinity"},
    "two levels, clusters": {"graph": "clustered"},
}
#: Tables 2 to 4 of the paper on P12: AUROC, AUPRC; which of rows 4 and 5 of Table 3 lacks which unit is not told in its text
_PAPER = {
    _OURS: ("0.875", "0.504"),
    "without the density unit": ("0.861 or 0.867", "0.493 or 0.497"),
    "without the value unit": ("0.861 or 0.867", "0.493 or 0.497"),
    "without both units": ("0.853", "0.482"),
    "without both, one scale": ("0.842", "0.475"),
    "vanilla attention": ("0.849", "0.479"),
    "vanilla attention, without both": ("0.831", "0.468"),
    "one level, all learned": ("0.837", "0.467"),
    "one level, organs": ("0.852", "0.478"),
    "two levels, clusters": ("0.868", "0.492"),
}
#: draws of the bootstrap
_REPEATS = 1000

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Scale:
    """How much is computed.

    Attributes:
        stays: taken at random; 0 for all.
        folds: that are run, of those of the configuration; empty for all.
        ablations: names among those of Tables 3 and 4.
        settings: other than the defaults.
        plain: whether MVMformer is fitted without static features too.
    """

    stays: int = 0
    folds: tuple[int, ...] = ()
    ablations: tuple[str, ...] = (*_TABLE_3, *_TABLE_4)
    settings: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = True


_FULL = _Scale()
_QUICK = _Scale(
    stays=600,
    folds=(0, 1),
    ablations=("without the density unit", "one level, all learned"),
    settings={"epochs": 6, "patience": 0, "lr": 1e-3},
    plain=False,
)


@dataclass(frozen=True)
class _Predictions:
    """Of one model on the test parts of all folds that were run, in one order for all models.

    Attributes:
        labels, probabilities, folds: of n stays; a fold of another seed has another number.
        units: their ids.
        seconds: of a fold's fit, mean.
        hidden: probabilities while variables are hidden [shares, draws, n]; None where that was not asked for.
    """

    labels: npt.NDArray[np.int64]
    probabilities: Values
    folds: npt.NDArray[np.int64]
    units: npt.NDArray[Any]
    seconds: float
    hidden: Values | None = None

    def statistic(self, area: str, values: Values | None = None) -> Statistic:
        """Mean over the folds of an area, of ``values`` instead of the probabilities where they are given."""
        chosen = self.probabilities if values is None else values
        parts = [np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds)]
        areas = [(_AREAS[area](self.labels[part], chosen[part]), part) for part in parts]

        def mean(weights: Weights) -> float:
            return float(np.mean([one(weights[part]) for one, part in areas]))

        return mean

    def ranks(self) -> Values:
        """Rank of each stay within its fold, 0 to 1: folds have networks of their own, whose scales differ."""
        found = np.empty(len(self.folds))
        for fold in np.unique(self.folds):
            part = np.flatnonzero(self.folds == fold)
            found[part] = np.searchsorted(np.sort(self.probabilities[part]), self.probabilities[part]) / len(part)
        return found

    def by_fold(self, area: str) -> Values:
        """The area in each fold."""
        found = []
        for fold in np.unique(self.folds):
            part = self.folds == fold
            found.append(_AREAS[area](self.labels[part], self.probabilities[part])(np.ones(int(part.sum()))))
        return np.array(found)


@dataclass(frozen=True)
class _Experiment:
    """Everything that was fitted and found: predictions by model, looks by fold of MVMformer, and what data it was."""

    scale: _Scale
    config: ClinicalConfig
    source: Source
    stays: int
    deaths: int
    seeds: int
    found: dict[str, _Predictions]
    looked: list[Looked]


def reproduce(request: Reproduction) -> Finding:
    """Run the experiment.

    Raises:
        UserError: the lake has no data for it; the message says how to get some.
    """
    done = _fitted(request, _QUICK if request.quick else _FULL)
    found = done.found
    sections = [
        Section("Models on the same folds", _models(done), _models_note(done, quick=request.quick)),
        *(
            Section(title, _ablations(done, names), _ABLATION_NOTE)
            for title, names in (
                ("Ablations of the attention (Table 3)", _TABLE_3),
                ("Ablations of the graph (Table 4)", _TABLE_4),
            )
        ),
        Section("Variables missing in the test part (Fig. 3b)", _missing(done), _missing_note(done)),
    ]
    curves = {name: (one.labels, one.ranks()) for name, one in found.items() if name in (*_MODELS, _TREES)}
    graph = done.looked[0].graph
    figures = {
        "roc": png(lambda axes: drawing.roc(axes, curves)),
        "precision_recall": png(lambda axes: drawing.precision_recall(axes, curves)),
        "missing": drawing.png(drawing.missing_figure((0.0, *SHARES), _missing_curves(done))),
    }
    if graph is not None:
        figures["graph"] = drawing.png(drawing.draw_graph(**vars(graph)))
    return Finding(CLAIM, _verdict(done), tuple(sections), figures, (done.source,))


# -- fitting ----------------------------------------------------------------------------------------------------------


def _dataset(request: Reproduction) -> Dataset:
    if not request.data and DATASET not in request.catalog:
        raise UserError(
            f"{request.catalog.storage.url} has no data set {DATASET!r}. Download set-a and Outcomes-a.txt of the "
            "PhysioNet/Computing in Cardiology Challenge 2012 (challenge-2012/1.0.0, open access) into a folder and run: "
            f"sensorium catalog ingest FOLDER --dataset {DATASET} --format physionet2012 "
            "or name another data set of irregular series with --data NAME."
        )
    dataset = request.catalog.dataset(request.data or DATASET)
    dataset.declaration.require(ClinicalConfig().target)
    return dataset


def _fitted(request: Reproduction, scale: _Scale) -> _Experiment:
    dataset = _dataset(request)
    statics = tuple(name for name in STATICS if name.partition("=")[0] in dataset.fields)
    config = overridden(overridden(ClinicalConfig(), {**scale.settings, "statics": statics}), request.changes)
    where, stays, deaths = _chosen(dataset, config, scale)
    source = Source(dataset.name, dataset.version)
    seeds = request.seeds or 1
    wanted = dict(_MODELS)
    if scale.plain and statics:
        wanted[_PLAIN] = {"statics": ()}
    wanted |= {name: {**_TABLE_3, **_TABLE_4}[name] for name in scale.ablations}
    found: dict[str, list[_Predictions]] = {}
    looked: list[Looked] = []
    with ray_session(request.settings):
        for seed in range(seeds):
            for name, settings in wanted.items():
                chosen = overridden(config, {**settings, "fit.seed": seed, "split.seed": seed})
                asked = FitRequest("clinical_series", str(source), chosen, where=where)
                after = look if name in (*_MODELS, _PLAIN) else None
                done = request.cross_validate(asked, scale.folds, after=after)
                for model, predictions in _predictions(name, done, seed * config.split.folds).items():
                    found.setdefault(model, []).append(predictions)
                if name == _OURS:
                    looked += [done.extras[fold] for fold in sorted(done.extras)]
    joined = {name: _joined(parts) for name, parts in found.items()}
    return _Experiment(scale, config, source, stays, deaths, seeds, joined, looked)


def _chosen(dataset: Dataset, config: ClinicalConfig, scale: _Scale) -> tuple[str, int, int]:
    """The stays that are used as SQL, how many they are, and how many of them have the outcome."""
    labelled = f"{config.target} IS NOT NULL"
    rows = dataset.select(labelled, fields=[config.target]).frame().sort("id")
    if scale.stays and rows.height > scale.stays:
        kept = np.random.default_rng(0).choice(rows.height, scale.stays, replace=False)
        rows = rows[np.sort(kept).tolist()]
        quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in rows["id"])
        labelled = f"id IN ({quoted})"
    return labelled, rows.height, int(rows[config.target].sum())


def _predictions(name: str, done: CrossValidation, first: int) -> dict[str, _Predictions]:
    """Those of one cross-validation by model, beside MVMformer also of the trees; folds are counted from ``first``."""
    rows = done.rows.sort("fold", "id")
    ours = _Predictions(
        labels=rows["label"].to_numpy(),
        probabilities=rows["probability"].to_numpy(),
        folds=rows["fold"].to_numpy().astype(np.int64) + first,
        units=rows["id"].to_numpy(),
        seconds=float(np.mean(done.folds["seconds"].to_numpy())),
        hidden=_aligned(done, "hidden"),
    )
    found = {name: ours}
    if name == _OURS:
        trees = [done.extras[fold].trees for fold in sorted(done.extras)]
        plain = np.concatenate([np.asarray(one.trees.plain)[_order(one)] for one in _looks(done)])
        seconds = float(np.mean([one.seconds for one in trees]))
        found[_TREES] = _Predictions(ours.labels, plain, ours.folds, ours.units, seconds, _aligned(done, "trees"))
    return found


def _looks(done: CrossValidation) -> list[Any]:
    return [done.extras[fold] for fold in sorted(done.extras) if done.extras[fold] is not None]


def _order(looked: Looked) -> npt.NDArray[np.int64]:
    """Where the stays of a fold are in the order of their ids."""
    return np.argsort(np.array(looked.ids), kind="stable")


def _aligned(done: CrossValidation, which: str) -> Values | None:
    """Probabilities while variables are hidden [shares, draws, n], in the order of folds and ids."""
    parts = [(one.trees.hidden if which == "trees" else one.hidden)[:, :, _order(one)] for one in _looks(done)]
    return np.concatenate(parts, axis=2) if parts else None


def _joined(parts: Sequence[_Predictions]) -> _Predictions:
    """Those of all seeds."""
    hidden = [part.hidden for part in parts if part.hidden is not None]
    return _Predictions(
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        folds=np.concatenate([part.folds for part in parts]),
        units=np.concatenate([part.units for part in parts]),
        seconds=float(np.mean([part.seconds for part in parts])),
        hidden=np.concatenate(hidden, axis=2) if hidden else None,
    )


# -- tables -----------------------------------------------------------------------------------------------------------


def _intervals(one: _Predictions) -> dict[str, Figure]:
    statistics = {area: one.statistic(area) for area in _AREAS}
    return with_intervals(statistics, one.units, repeats=_REPEATS)


def _difference(done: _Experiment, name: str) -> Figure:
    """AUROC of MVMformer less that of another, on the same stays."""
    ours, other = done.found[_OURS].statistic("AUROC"), done.found[name].statistic("AUROC")
    return with_intervals(
        {"difference": lambda weights: ours(weights) - other(weights)}, done.found[_OURS].units, repeats=_REPEATS
    )["difference"]


def _signed(figure: Figure) -> str:
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def _line(done: _Experiment, name: str) -> dict[str, Any]:
    one = done.found[name]
    figures = _intervals(one)
    line: dict[str, Any] = {"model": name}
    for area, figure in figures.items():
        line[area] = round(figure.value, 3)
        line[f"{area}, deviation"] = round(float(one.by_fold(area).std()), 3)
        line[f"{area}, 95 %"] = f"{figure.low:.3f}–{figure.high:.3f}"
    line["MVMformer's AUROC less this"] = "" if name == _OURS else _signed(_difference(done, name))
    return line


def _models(done: _Experiment) -> pl.DataFrame:
    names = [name for name in (_OURS, _PLAIN, *list(_MODELS)[1:], _TREES) if name in done.found]
    lines = [{**_line(done, name), "fit, s": round(done.found[name].seconds, 1)} for name in names]
    for line in lines:
        line["paper's AUROC"], line["paper's AUPRC"] = _PAPER.get(line["model"], ("", ""))
    return pl.DataFrame(lines)


def _ablations(done: _Experiment, names: Mapping[str, Any]) -> pl.DataFrame:
    chosen = [_OURS, *(name for name in names if name in done.found)]
    lines = [_line(done, name) for name in chosen]
    for line in lines:
        line["paper's AUROC"], line["paper's AUPRC"] = _PAPER[line["model"]]
    return pl.DataFrame(lines)


def _at(one: _Predictions, area: str) -> list[float]:
    """The area without and with variables hidden, a mean over the draws."""
    ones = np.ones(len(one.labels))
    shares = [] if one.hidden is None else [*one.hidden]
    means = [float(np.mean([one.statistic(area, values)(ones) for values in draws])) for draws in shares]
    return [one.statistic(area)(ones), *means]


def _missing_curves(done: _Experiment) -> dict[str, dict[str, list[float]]]:
    names = [name for name in (*_MODELS, _TREES) if done.found[name].hidden is not None]
    return {area: {name: _at(done.found[name], area) for name in names} for area in _AREAS}


def _missing(done: _Experiment) -> pl.DataFrame:
    curves = _missing_curves(done)
    lines = []
    for place, share in enumerate((0.0, *SHARES)):
        line: dict[str, Any] = {"variables hidden": f"{share:.0%}"}
        for area, models in curves.items():
            line |= {f"{area}, {name}": round(values[place], 3) for name, values in models.items()}
        lines.append(line)
    return pl.DataFrame(lines)


# -- words ------------------------------------------------------------------------------------------------------------

_ABLATION_NOTE = (
    "Each row is MVMformer with one thing changed. Differences are paired by stay; an interval with 0 inside means that "
    "this data cannot tell the two apart. Paper: 11,988 stays, five folds."
)


def _models_note(done: _Experiment, *, quick: bool) -> str:
    config, scale = done.config, done.scale
    folds = len(np.unique(done.found[_OURS].folds))
    parts = [
        f"{done.stays} stays of {done.source}, {done.deaths} deaths; the paper has 11,988 (10.1 % deaths).",
        f"{folds} fits of each network ({done.seeds} seed{'s' if done.seeds > 1 else ''} × "
        f"{folds // done.seeds} of {config.split.folds} folds), at most {config.fit.epochs} epochs; the epoch with the best "
        "validation AUROC is kept. Areas are means over the folds, deviations over the folds (population), intervals by "
        "bootstrap over stays.",
        "All models see the same stays and the same static features "
        f"({', '.join(config.static_fields()) or 'none'}), which the paper does not use"
        + (f"; “{_PLAIN}” does without." if _PLAIN in done.found else "."),
        "The curves in the figures are of ranks within folds.",
        "The trees (150 rounds, no search) see nine summaries of each variable. GRU-D, triplet Transformer and trees "
        "are ours, not the paper's rivals.",
    ]
    usual = ClinicalConfig().fit
    if (config.fit.epochs, config.fit.lr) != (usual.epochs, usual.lr):
        parts.append(
            f"**Shortened:** {config.fit.epochs} epochs at a rate of {config.fit.lr:g} for up to {usual.epochs} at "
            f"{usual.lr:g}, so that not every network has finished learning."
        )
    if quick:
        skipped = [name for name in (*_TABLE_3, *_TABLE_4) if name not in scale.ablations]
        parts.append(
            f"**Quick:** {done.stays} stays taken at random for all; left out: {'; '.join(skipped)}; MVMformer on series only."
        )
    return " ".join(parts)


def _missing_note(done: _Experiment) -> str:
    return (
        f"All that was observed of the hidden variables is left out of the test part, the same variables for all stays and "
        f"models; means of {DRAWS} random choices and {len(np.unique(done.found[_OURS].folds))} fits. Static features stay. "
        "Training and validation parts are untouched (the paper hides them in its validation part too)."
    )


def _verdict(done: _Experiment) -> str:
    curves = _missing_curves(done)["AUROC"]
    rivals = [name for name in curves if name != _OURS]
    ablations = [name for name in (*_TABLE_3, *_TABLE_4) if name in done.found]
    differences = {name: _difference(done, name) for name in (*rivals, *ablations)}
    best = max(rivals, key=lambda name: curves[name][0])
    better = all(differences[name].low > 0 for name in rivals)
    adds = [name for name in ablations if differences[name].low > 0]
    drops = {name: values[0] - values[-1] for name, values in curves.items()}
    robust = curves[_OURS][-1] >= max(values[-1] for values in curves.values()) and drops[_OURS] <= min(drops.values())
    held = [better, len(adds) == len(ablations), robust]
    word = "yes" if all(held) else "in part" if any(held) or adds else "no"
    steadiest = min(drops, key=lambda name: drops[name])
    last = max(curves, key=lambda name: curves[name][-1])
    hurts = [name for name in ablations if differences[name].high < 0]
    return (
        f"{word}. *Rivals:* AUROC {curves[_OURS][0]:.3f}, and {curves[best][0]:.3f} of the best of the others ({best}), a "
        f"difference of {_signed(differences[best])}"
        f"{', within the noise' if differences[best].low <= 0 <= differences[best].high else ''}. *Units:* of "
        f"{len(ablations)} ablations {sum(differences[name].value > 0 for name in ablations)} have a lower AUROC than the whole, "
        f"{len(adds)} of them beyond the noise{', and ' + ', '.join(hurts) + ' a higher one beyond it' if hurts else ''}. "
        f"*Missing variables:* with {SHARES[-1]:.0%} hidden the AUROC falls by {drops[_OURS]:.3f} to {curves[_OURS][-1]:.3f}; "
        f"the smallest fall is that of {steadiest} ({drops[steadiest]:.3f}), the best AUROC then that of {last} "
        f"({curves[last][-1]:.3f})."
    )
