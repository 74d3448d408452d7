"""Every folder of a collection of real samples becomes a data set, timed against plain reading of the same files.

    python -m tests.benchmarks.sample_lake PATH [--lake PLACE] [--workers N]

The table has, for each folder: samples, seconds, bytes of the files a second, and the ratio to a loop over the files with the
library that the importer uses, on one core, in the same run. Files lie in the system's cache for both.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.catalog import Catalog
from sensorium.catalog.importer import GROUP, Importer, Source, suffix
from sensorium.catalog.ingest import choose_importer
from sensorium.platform import plugins
from sensorium.platform.errors import SensoriumError
from sensorium.platform.tables import human_bytes, print_rows

__all__ = ["FOLDERS", "Folder", "main"]


@dataclass(frozen=True)
class Folder:
    """A folder of the collection.

    Attributes:
        place: below it.
        dataset: name of the data set.
        format: of the importer; ``auto`` where it must find out by itself.
        options: for it.
    """

    place: str
    dataset: str
    format: str = "auto"
    options: Mapping[str, str] = field(default_factory=dict)


FOLDERS = (
    Folder("clinical_ts/physionet2012", "physionet2012"),
    Folder(
        "change/oscd_sentinel2",
        "oscd",
        "arrays",
        {"modality": "image_pair", "before": "t1", "after": "t2", "channels_first": "yes"},
    ),
    Folder("eeg/eegmat/npz125", "eegmat", "npz", {"signal": "rest,task", "sampling_rate": "125", "scale": "0.1"}),
    Folder("eeg/eegmat/edf", "eegmat_raw"),
    Folder("audio/fsdd", "fsdd", options={"pattern": r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<take>\d+)"}),
    Folder("audio/speech_commands_samples", "speech_commands", options={"pattern": r"(?P<word>\w+?)__"}),
    Folder("audio/vctk_samples", "vctk"),
    Folder("hyperspectral/plantcv_corn_kernel", "corn_kernel"),
    Folder("hyperspectral/grapevine_leaf_spectra", "grapevine", "arrays", {"modality": "table", "rows": "together"}),
    Folder("thermal/plantcv_thermal", "thermal", "arrays", {"modality": "table"}),
    Folder("video/umi_cup", "umi_cup"),
    Folder("plates_eu", "plates_eu"),
    Folder("unclear/sensor_ts/uci_gas_drift", "gas_drift"),
    Folder("unclear/change/levir_cd_samples", "levir"),
    Folder("unclear/change/dsifn_samples", "dsifn"),
    Folder("unclear/segmentation/camvid", "camvid"),
    Folder("unclear/hyperspectral/jasper_ridge", "jasper_ridge", options={"cube": "Y", "shape": "100x100"}),
    Folder("unclear/ct/lungmask_testdata", "ct_slice"),
    Folder("unclear/ct/lung_masks", "lung_masks", options={"unit": "HU"}),
    Folder("unclear/mri/mne_sample", "mne_sample"),
    Folder("unclear/panorama/horizonnet_demo", "horizonnet", "panoramas"),
    Folder("unclear/panorama/sphsps_sun360", "sun360", "panoramas"),
    Folder("unclear/scene3d/nerf_synthetic_lego_200", "lego"),
)


def _picture(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def _sound(path: Path) -> Any:
    import soundfile

    return soundfile.read(path)[0]


def _volume(path: Path) -> Any:
    import nibabel

    return np.asanyarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]


def _edf(path: Path) -> Any:
    import edfio

    return [signal.data for signal in edfio.read_edf(path).signals]


def _npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        return [archive[name] for name in archive.files]


def _dicom(path: Path) -> Any:
    import pydicom

    return pydicom.dcmread(path, force=True).pixel_array


def _mat(path: Path) -> Any:
    import scipy.io

    return scipy.io.loadmat(path)


def _csv(path: Path) -> Any:
    import polars

    return polars.read_csv(io.BytesIO(path.read_bytes()), infer_schema_length=None, ignore_errors=True)


#: how the library that the importer uses reads a file by itself; other files are read as bytes
PLAIN: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"), _picture),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".mp3"), _sound),
    **dict.fromkeys((".nii", ".nii.gz", ".mgz"), _volume),
    **dict.fromkeys((".csv", ".txt"), _csv),
    ".edf": _edf,
    ".npz": _npz,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".dcm": _dicom,
    ".mat": _mat,
}


def _row(catalog: Catalog, root: Path, one: Folder, workers: int) -> list[str]:
    path = root / one.place
    if not path.exists():
        return [one.place, "", "", "", "", "", "not there"]
    try:
        source = Source(path.absolute(), one.options)
        importer: Importer = (
            choose_importer(source) if one.format == "auto" else plugins.load(GROUP, one.format, Importer)
        )
        files = sorted({file for item in importer.plan(source) for file in item.paths if file.is_file()})
        size = sum(file.stat().st_size for file in files)
        started = time.perf_counter()
        for file in files:
            PLAIN.get(suffix(file), Path.read_bytes)(file)
        plain = time.perf_counter() - started
        started = time.perf_counter()
        report = catalog.ingest(path, one.dataset, importer.name, options=one.options, workers=workers)
        seconds = time.perf_counter() - started
    except SensoriumError as error:
        return [one.place, one.format, "", "", "", "", str(error)[:160]]
    again = catalog.ingest(path, one.dataset, importer.name, options=one.options, workers=workers)
    remark = "" if (again.added, again.version) == (0, report.version) else "a second import changed it"
    remark = f"{len(report.failed)} failed: {report.failed[0][1][:100]}" if report.failed else remark
    rate = f"{human_bytes(int(size / seconds))}/s"
    return [one.place, importer.name, str(report.added), f"{seconds:.2f}", rate, f"{plain / seconds:.2f}", remark]


def main() -> None:
    """Import all folders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--lake", type=Path, default=None, help="where to leave the lake (default: nowhere)")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    place = nullcontext(given.lake) if given.lake else tempfile.TemporaryDirectory()
    with place as lake:
        catalog = Catalog(lake)
        warm = Path(tempfile.mkdtemp()) / "warm.npy"
        np.save(warm, np.zeros((2, 2, 2), np.float32))
        for _ in range(2):  # readers begin, and this process imports what it needs
            catalog.ingest(warm.parent, "warm", "arrays", options={"modality": "hyperspectral"}, workers=given.workers)
        rows = [_row(catalog, given.data, one, given.workers) for one in FOLDERS]
        catalog.drop("warm")
    print(
        f"\n{given.workers} of {os.cpu_count()} cores; ratio: seconds of plain reading on one core / seconds of the import\n"
    )
    print_rows(["folder", "format", "samples", "seconds", "files", "ratio", "remark"], rows)


if __name__ == "__main__":
    main()
