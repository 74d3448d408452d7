"""A small source for every importer: what the conformance suite and the fuzzer begin with.

Whoever adds an importer adds an example: a folder with two samples at least, made with a library that is not ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from tests.catalog import (
    test_brainvision,
    test_change_folders,
    test_coco,
    test_dicom,
    test_edf,
    test_envi,
    test_fif,
    test_geotiff,
    test_hdf5,
    test_hf_dataset,
    test_matlab_cubes,
    test_metaimage,
    test_mimic3,
    test_mimic3_benchmarks,
    test_panoramas,
    test_parquet_folder,
    test_physionet2012,
    test_physionet2019,
    test_plates,
    test_scenes,
    test_sound_layouts,
    test_videos,
    test_voc,
    test_webdataset,
    test_wfdb,
)
from tests.catalog.importing import LONG, picture, sound, volume, write
from tests.jobs.water_pollutants import test_gas

__all__ = ["EXAMPLES", "Options"]

Options = dict[str, str]


def _arrays(folder: Path) -> Options:
    for number, name in enumerate("ab"):
        np.savez(folder / f"{name}.npz", cube=np.full((3, 4, 5), number, np.uint16), wavelength=np.arange(400.0, 405.0))
    return {}


def _audio(folder: Path) -> Options:
    sound(folder / "a.wav")
    sound(folder / "b.flac", np.arange(-90, 90, dtype=np.int16))
    return {}


def _change(folder: Path) -> Options:
    for name in ("a.png", "b.png"):
        test_change_folders.pair(folder, name)
    return {}


def _coco(folder: Path) -> Options:
    images = [{"id": n, "file_name": f"{name}.png", "width": 9, "height": 6} for n, name in enumerate("ab", 1)]
    things = [test_coco.thing(n, n, segmentation=test_coco.SQUARE) for n in (1, 2)]
    for name in "ab":
        picture(folder / f"{name}.png")
    write(folder / "instances.json", test_coco.document(things, images))
    return {}


def _dicom(folder: Path) -> Options:
    test_dicom.scan(folder / "a", series="1.2.3")
    test_dicom.scan(folder / "b", series="1.2.4")
    return {}


def _edf(folder: Path) -> Options:
    test_edf.record(folder / "a.edf")
    test_edf.record(folder / "b.edf")
    return {}


def _envi(folder: Path) -> Options:
    test_envi.plain(folder / "a.hdr")
    test_envi.plain(folder / "b.hdr")
    return {}


def _gas(folder: Path) -> Options:
    (folder / "batch1.csv").write_text(test_gas.line("Ethanol", 0) + test_gas.line("Toluene", 200))
    (folder / "batch2.csv").write_text(test_gas.line("Acetone", 9))
    return {}


def _geotiff(folder: Path) -> Options:
    for name in "ab":
        test_geotiff.scene(folder / f"{name}.tif", test_geotiff.values(6, "uint16"))
    return {}


def _geotiff_pictures(folder: Path) -> Options:
    for name in "ab":
        test_geotiff.scene(folder / f"{name}.tif", test_geotiff.values(3, "uint8"))
    return {}


def _hdf5(folder: Path) -> Options:
    for number, name in enumerate("ab"):
        test_hdf5.saved(folder / f"{name}.h5", image=test_hdf5.PICTURES[number])
    return {"modality": "image"}


def _matlab(folder: Path) -> Options:
    test_matlab_cubes.five(folder / "a.mat", data=test_matlab_cubes.CUBE)
    test_matlab_cubes.seven(folder / "b.mat", data=test_matlab_cubes.CUBE)
    return {}


def _images(folder: Path) -> Options:
    picture(folder / "a.png")
    picture(folder / "b.jpg")
    picture(folder / "masks" / "a.png", np.eye(6, 9, dtype=np.uint8) * 255)
    return {}


def _metaimage(folder: Path) -> Options:
    for name in "ab":
        content = test_metaimage.PLAIN + "ElementDataFile = LOCAL\n"
        write(folder / f"{name}.mha", content.encode() + test_metaimage.BODY.tobytes())
    return {}


def _nifti(folder: Path) -> Options:
    volume(folder / "a.nii.gz")
    volume(folder / "b.nii")
    return {}


def _npz(folder: Path) -> Options:
    for number, name in enumerate("ab"):
        np.savez(folder / f"{name}.npz", signal=np.full((2, 30), number, np.float32), sampling_rate=np.array(50.0))
    return {}


def _panoramas(folder: Path) -> Options:
    for name in "ab":
        test_panoramas.panorama(folder / f"{name}.png")
    return {}


def _physionet(folder: Path) -> Options:
    for number in (101, 102):
        test_physionet2012.record(folder / "set-a", number)
    write(folder / "Outcomes-a.txt", test_physionet2012.OUTCOMES)
    return {}


def _plates(folder: Path) -> Options:
    for name in "ab":
        test_plates.photograph(folder, f"{name}.jpg\t5\t6\t20\t10\tAB123\n", name)
    return {}


def _series(folder: Path) -> Options:
    write(folder / "series.csv", LONG)
    return {}


def _voc(folder: Path) -> Options:
    test_voc.year(folder, "a", "b")
    return {}


def _physionet2019(folder: Path) -> Options:
    for hours in (5, 9):
        test_physionet2019.record(folder / f"p{hours:06}.psv", test_physionet2019.table(hours))
    return {}


def _brainvision(folder: Path) -> Options:
    for name in "ab":
        test_brainvision.record(folder / f"{name}.vhdr")
    return {}


def _fif(folder: Path) -> Options:
    for name in "ab":
        test_fif.record(folder / f"{name}_raw.fif")
    return {}


def _videos(folder: Path) -> Options:
    for name in ("a.mp4", "b.avi"):
        test_videos.film(folder / name, "mpeg4", test_videos.moving(6))
    return {}


def _kaldi(folder: Path) -> Options:
    test_sound_layouts.kaldi(folder, segments="a one 0 0.5\nb two 0.25 1\n")
    return {}


def _sound_manifest(folder: Path) -> Options:
    for name in "ab":
        sound(folder / f"{name}.wav")
    test_sound_layouts.manifest(folder, *({"audio_filepath": f"{name}.wav"} for name in "ab"))
    return {}


def _wfdb(folder: Path) -> Options:
    for name in "ab":
        test_wfdb.record(folder / f"{name}.hea")
    return {}


def _scenes(folder: Path) -> Options:
    for name in "ab":
        names = test_scenes.pictures(folder / name / "images")
        test_scenes.colmap_bytes(folder / name / "sparse/0", names)
    return {}


def _mimic3(folder: Path) -> Options:
    test_mimic3.extract(folder)
    return {}


def _mimic3_benchmarks(folder: Path) -> Options:
    test_mimic3_benchmarks.task(folder)
    return {}


def _webdataset(folder: Path) -> Options:
    test_webdataset.two(folder / "shard-000000.tar")
    return {}


def _parquet_folder(folder: Path) -> Options:
    test_parquet_folder.pictures(folder / "a.parquet")
    return {}


def _hf_dataset(folder: Path) -> Options:
    test_hf_dataset.saved(folder)
    return {}


def _zarr(folder: Path) -> Options:
    group = zarr.create_group(store=str(folder / "data.zarr"))
    made = group.create_array("image", shape=(2, 4, 5, 3), dtype="uint8", chunks=(1, 4, 5, 3))
    made[...] = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
    return {}


#: importer -> writes its example into an empty folder, and returns the options that it needs
EXAMPLES: dict[str, Callable[[Path], Options]] = {
    "arrays": _arrays,
    "audio_files": _audio,
    "brainvision": _brainvision,
    "change_folders": _change,
    "coco": _coco,
    "dicom": _dicom,
    "edf": _edf,
    "envi": _envi,
    "fif": _fif,
    "gas_drift": _gas,
    "geotiff": _geotiff,
    "geotiff_pictures": _geotiff_pictures,
    "hdf5": _hdf5,
    "hf_dataset": _hf_dataset,
    "image_folder": _images,
    "kaldi": _kaldi,
    "matlab_cubes": _matlab,
    "metaimage": _metaimage,
    "mimic3": _mimic3,
    "mimic3_benchmarks": _mimic3_benchmarks,
    "nifti": _nifti,
    "npz": _npz,
    "panoramas": _panoramas,
    "parquet_folder": _parquet_folder,
    "physionet2012": _physionet,
    "physionet2019": _physionet2019,
    "plates": _plates,
    "scenes": _scenes,
    "series_table": _series,
    "sound_manifest": _sound_manifest,
    "videos": _videos,
    "voc": _voc,
    "webdataset": _webdataset,
    "wfdb": _wfdb,
    "zarr_store": _zarr,
}
