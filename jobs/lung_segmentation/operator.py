"""lung_segmentation on the samples of a data set: both lungs, their volumes, and how they were found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.lung_segmentation.config import LungConfig
from sensorium.jobs.lung_segmentation.drawing import illustrate
from sensorium.jobs.lung_segmentation.phantom import phantom
from sensorium.jobs.lung_segmentation.preparation import prepared
from sensorium.jobs.lung_segmentation.segmentation import Segmentation, segment
from sensorium.jobs.training.operators import Operator
from sensorium.jobs.training.samples import Sample
from sensorium.platform.errors import InvalidSample

__all__ = ["operator"]


def _results(_config: LungConfig) -> tuple[Field, ...]:
    return (
        ArrayField("lungs", "Z Y X", dtypes=("uint8",), description="1 the patient's right lung, 2 the left"),
        ArrayField(
            "map", "Z Y X", dtypes=("uint8",), description="0 outside the body, 1 labelled chest, 2 labelled lung"
        ),
        ArrayField("gaussians", "A K P", dtypes=("float64",), finite=False, description=_GAUSSIANS),
        ArrayField(
            "trace", "T", dtypes=("float64",), description="log-likelihood of a voxel after LCG, MGRF, each epoch"
        ),
        ScalarField("right_ml", pa.float64(), unit="ml", minimum=0, description="volume of the patient's right lung"),
        ScalarField("left_ml", pa.float64(), unit="ml", minimum=0, description="volume of the patient's left lung"),
        ScalarField("airways_ml", pa.float64(), unit="ml", minimum=0, description="trachea and main bronchi, left out"),
        ScalarField("potential", pa.float64(), description="V_eq of the map (Eq. 8)"),
    )


_GAUSSIANS = (
    "for each appearance and Gaussian: weight, mean HU, deviation HU, 1 for lung, 1 for dominant; NaN: none there"
)


def _predict(config: LungConfig, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    return [_result(config, sample) for sample in samples]


def _result(config: LungConfig, sample: Sample) -> dict[str, Any]:
    volume = prepared(sample)
    name = str(sample.get("id", "?"))
    keep = Path(config.keep) / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.pt" if config.keep else None
    try:
        found = segment(volume, config, keep=keep)
    except InvalidSample as error:
        raise InvalidSample(f"sample {name!r}, field 'volume': {error}") from error
    lungs = volume.returned(found.lungs)
    if config.write:
        _write(Path(config.write), sample, lungs)
    return {
        "lungs": lungs,
        "map": volume.returned(found.labels),
        "gaussians": _gaussians(found, config.most_components),
        "trace": np.asarray(found.trace, np.float64),
        "right_ml": found.right_ml,
        "left_ml": found.left_ml,
        "airways_ml": float(found.model.airways.sum()) * volume.voxel_ml,
        "potential": found.strength,
    }


def _write(folder: Path, sample: Sample, lungs: np.ndarray) -> None:
    """Both files of a sample; where characters of its id are in no file name, with a digest of it, so that no two share one."""
    from sensorium.jobs.lung_segmentation.export import to_dicom_seg, to_nifti

    folder.mkdir(parents=True, exist_ok=True)
    given = str(sample.get("id", "lungs"))
    name = re.sub(r"[^\w.-]+", "_", given)
    if name != given:
        name = f"{name}-{hashlib.sha256(given.encode()).hexdigest()[:8]}"
    to_nifti(sample, lungs, folder / f"{name}_lungs")
    to_dicom_seg(sample, lungs, folder / f"{name}_lungs")


def _gaussians(found: Segmentation, most: int) -> np.ndarray:
    out = np.full((len(found.model.mixtures), most, 5), np.nan)
    for place, mixture in enumerate(found.model.mixtures):
        count = len(mixture.weights)
        dominant = np.isin(np.arange(count), mixture.primary)
        out[place, :count] = np.stack(
            [mixture.weights, mixture.means, mixture.deviations, mixture.lung, dominant], axis=1
        )
    return out


def _example(_config: LungConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Two small simulated chests, one of them in the orientation of DICOM."""
    samples = []
    for number, turned in enumerate((False, True)):
        made = phantom(seed + number, (24, 48, 64), lesions=2)
        hu = np.ascontiguousarray(made.hu[:, ::-1, ::-1]) if turned else made.hu
        samples.append({"id": f"made-up-{number}", "volume": hu, "spacing": list(made.spacing)})
        samples[-1]["orientation"] = "LPS" if turned else "RAS"
    return samples, {"unit": "HU"}


operator = Operator(
    config=LungConfig,
    fields=lambda _config: ("volume",),
    modality=lambda _config: "volume",
    results=_results,
    predict=_predict,
    example=_example,
    illustrate=illustrate,
    places=("keep", "write"),
    optional=lambda _config: ("spacing", "orientation", "unit", "modality", "affine"),
)
