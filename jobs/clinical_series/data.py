"""Records from the catalog as ragged batches, and what is fitted on the training part before a network is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sensorium.catalog.selection import Selection
from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.graph import cluster_variables
from sensorium.jobs.clinical_series.organs import ORGANS, organ_groups
from sensorium.jobs.clinical_series.ragged import RaggedBatch, collate, fit_statistics
from sensorium.jobs.training.examples import Columns, Examples
from sensorium.jobs.training.method import Sample, require_fields, samples_of
from sensorium.platform.errors import InvalidSample, InvalidSetting

__all__ = ["RecordPool", "batch_of", "checked", "examples", "fields", "label_of", "preprocess", "read_samples"]

#: array fields of a record
_ARRAYS = ("times", "variables", "values")
#: records read at a time for the statistics
_BATCH = 256


def fields(config: ClinicalConfig) -> tuple[str, ...]:
    """Fields of a record that a prediction looks at; the scalars among them may be missing in some records."""
    return (*_ARRAYS, "variable_names", *config.static_fields())


def read_samples(selection: Selection) -> Iterator[dict[str, Any]]:
    """Samples one by one, read some hundreds at a time."""
    for begin in range(0, len(selection), _BATCH):
        columns = selection.read(range(begin, min(begin + _BATCH, len(selection))))
        yield from samples_of(columns, selection.declaration.attributes)


# -- one record -------------------------------------------------------------------------------------------------------


def label_of(sample: Sample, config: ClinicalConfig) -> int:
    """The outcome of a sample, 0 or 1.

    Raises:
        InvalidSample: it is something else.
    """
    value = sample.get(config.target)
    if value is None or value not in (0, 1):
        raise InvalidSample(
            f"sample {sample.get('id', '?')!r}, field {config.target!r}: the outcome must be 0 or 1; got {value!r}. "
            "Choose another target, or code the outcome so."
        )
    return int(value)


def checked(sample: Sample, names: Sequence[str], config: ClinicalConfig) -> dict[str, Any]:
    """``sample`` with its arrays as NumPy arrays, its variables as indices into ``names``, whatever their order in its own.

    Raises:
        InvalidSample: a field is missing, not of the right form, or speaks of variables that are not among ``names``; which,
            and the remedy.
    """
    require_fields(sample, (*_ARRAYS, "variable_names"))
    arrays = {name: np.asarray(sample[name]) for name in _ARRAYS}
    for name, array in arrays.items():
        if array.ndim != 1 or len(array) != len(arrays["times"]):
            shapes = ", ".join(f"{one} {list(other.shape)}" for one, other in arrays.items())
            raise _refused(
                sample, name, f"times, variables and values must be rows of one length; got {shapes}", "Repair it"
            )
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            raise _refused(sample, name, f"{array[bad[0]]} at {bad[0]}", "Leave such observations out of the sample")
    own = list(sample["variable_names"])
    variables = arrays["variables"].astype(np.int64)
    if variables.size and not (variables.min() >= 0 and variables.max() < len(own)):
        wrong = variables.max() if variables.max() >= len(own) else variables.min()
        raise _refused(sample, "variables", f"index {wrong} into {len(own)} variable_names", "Repair the indices")
    if own != list(names):
        arrays["variables"] = _mapped(sample, variables, own, names)
    for name in config.static_fields():
        value = sample.get(name)
        if value is not None and not isinstance(value, int | float | np.number):
            raise _refused(sample, name, f"a static feature must be a number; got {value!r}", "Take it out of statics")
    return {**sample, **arrays}


def _mapped(
    sample: Sample, variables: npt.NDArray[np.int64], own: Sequence[str], names: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Indices into ``own`` as indices into ``names``."""
    place = {name: index for index, name in enumerate(names)}
    table = np.array([place.get(name, -1) for name in own], np.int64)
    mapped: npt.NDArray[np.int64] = table[variables]
    if (mapped < 0).any():
        strange = own[int(variables[mapped < 0][0])]
        known = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        problem = f"the variable {strange!r} is not among the {len(names)} of the training part ({known})"
        raise _refused(sample, "variables", problem, "Rename it, or leave its observations out")
    return mapped


def _refused(sample: Sample, field: str, problem: str, remedy: str) -> InvalidSample:
    return InvalidSample(f"sample {str(sample.get('id', '?'))!r}, field {field!r}: {problem}. {remedy}.")


# -- the training part ------------------------------------------------------------------------------------------------


def preprocess(train: Selection, config: ClinicalConfig) -> dict[str, Any]:
    """Of the training part: names of the variables, their groups, what scales them (:func:`.fit_statistics`).

    Raises:
        InvalidSetting: there is one outcome only, or the graph needs organs that are not known of the variables.
        InvalidSample: a record cannot be used.
    """
    first = next(read_samples(train))
    require_fields(first, ("variable_names",))
    names = [str(name) for name in first["variable_names"]]
    outcomes: dict[int, int] = {}
    means: list[npt.NDArray[np.float64]] = []

    def records() -> Iterator[dict[str, Any]]:
        for sample in read_samples(train):
            found = checked(sample, names, config)
            outcome = label_of(sample, config)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            if config.graph == "clustered":
                means.append(_means(found, len(names)))
            yield found

    statistics = fit_statistics(records(), len(names), config.statics, config.fit.seed)
    if len(outcomes) < 2:
        raise InvalidSetting(
            f"data set {train.name!r}: in the training part {config.target!r} is always {next(iter(outcomes))}. Both "
            "outcomes are needed; look at target=, --where and split.stratify."
        )
    organs, groups = _groups(config, names, means)
    return {"variables": names, "organs": organs, "groups": groups, **statistics}


def _means(sample: Sample, variables: int) -> npt.NDArray[np.float64]:
    """[K] mean of each variable of a record; NaN where it was not observed."""
    counts = np.bincount(sample["variables"], minlength=variables)
    sums = np.bincount(sample["variables"], np.asarray(sample["values"], np.float64), minlength=variables)
    means: npt.NDArray[np.float64] = np.divide(sums, counts, out=np.full(variables, np.nan), where=counts > 0)
    return means


def _groups(
    config: ClinicalConfig, names: list[str], means: list[npt.NDArray[np.float64]]
) -> tuple[list[str], list[int]]:
    """Names of the groups of variables, and the group of each variable; one group where no network looks at them."""
    if config.architecture != "mvmformer" or config.graph == "single":
        return ["all"], [0] * len(names)
    if config.graph == "clustered":
        # as many as there are organs, so that the graphs are of one size
        clusters = cluster_variables(np.stack(means), min(len(ORGANS), len(names)))
        return [f"cluster {number + 1}" for number in range(max(clusters) + 1)], list(clusters)
    organs, groups = organ_groups(names)
    return list(organs), list(groups)


# -- batches ----------------------------------------------------------------------------------------------------------


def batch_of(
    samples: Sequence[Sample],
    config: ClinicalConfig,
    preprocessing: Mapping[str, Any],
    hidden: Collection[int] = (),
) -> RaggedBatch:
    """Scaled records, without all that was observed of the variables ``hidden``.

    Raises:
        InvalidSample: a record cannot be used; see :func:`checked`.
    """
    names = preprocessing["variables"]
    records = [checked(sample, names, config) for sample in samples]
    return collate(records, len(names), preprocessing, config.statics, sorted(hidden))


class RecordPool:
    """Records in memory as one row of observations, from which batches are gathered."""

    def __init__(
        self,
        columns: Columns,
        attributes: Mapping[str, Any],
        config: ClinicalConfig,
        preprocessing: Mapping[str, Any],
    ) -> None:
        samples = samples_of(columns, attributes)
        self._records = batch_of(samples, config, preprocessing)
        self._labels = torch.tensor([float(label_of(sample, config)) for sample in samples])

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, indices: np.ndarray) -> dict[str, Any]:
        """``records``, a :class:`.RaggedBatch` of B, and ``label`` [B] float32."""
        chosen = torch.from_numpy(np.asarray(indices, np.int64))
        return {"records": self._records.take(chosen), "label": self._labels[chosen]}


def examples(selection: Selection, config: ClinicalConfig, preprocessing: Mapping[str, Any]) -> Examples:
    """The records of ``selection``, an example each."""
    attributes = selection.declaration.attributes
    # 16 to 20 bytes an observation in the catalog; 24 in the pool, and several times that while it is made
    return Examples(selection, lambda columns: RecordPool(columns, attributes, config, preprocessing), expansion=4.0)
