"""The system on simulated chests: what it finds, what it refuses, how it goes on, what it writes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch

from sensorium.catalog import Catalog
from sensorium.jobs.lung_segmentation.anatomy import lungs
from sensorium.jobs.lung_segmentation.baselines import iterated_modes, threshold_and_morphology
from sensorium.jobs.lung_segmentation.config import STAGES, LungConfig
from sensorium.jobs.lung_segmentation.export import to_dicom_seg, to_nifti
from sensorium.jobs.lung_segmentation.operator import operator
from sensorium.jobs.lung_segmentation.phantom import Phantom, phantom
from sensorium.jobs.lung_segmentation.preparation import prepared, upright
from sensorium.jobs.lung_segmentation.refinement import improved, refined
from sensorium.jobs.lung_segmentation.segmentation import Model, model_of, segment
from sensorium.jobs.lung_segmentation.supervised import fitted_unet
from sensorium.jobs.lung_segmentation.swin_unet import SwinUnet
from sensorium.jobs.training.operators import configured
from sensorium.jobs.training.overlap import mask_fit
from sensorium.jobs.training.prediction import operate
from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.settings import Settings

SMALL = LungConfig(stage="full", side=32, width=4, epochs=2, batch=15)


@cache
def chest() -> Phantom:
    return phantom(3, (30, 80, 100), lesions=2)


def sample(**changes: Any) -> dict[str, Any]:
    made = chest()
    return {"id": "a", "volume": made.hu, "spacing": made.spacing, "orientation": "RAS", "unit": "HU", **changes}


@cache
def model() -> Model:
    return model_of(prepared(sample()), LungConfig(stage="combined"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- what it finds -----------------------------------------------------------------------------------------------------


def test_the_lungs_of_a_phantom_are_found_and_told_apart() -> None:
    found = segment(model().volume, LungConfig(stage="lcg"), model=model())
    truth = chest().lungs
    assert mask_fit(found.lungs, truth, chest().spacing).dice > 0.93
    for side in (1, 2):
        assert ((found.lungs == side) & (truth == side)).sum() > 0.9 * (truth == side).sum()
    assert found.right_ml == pytest.approx((truth == 1).sum() * np.prod(chest().spacing) / 1000, rel=0.12)


def test_airways_and_table_are_left_out() -> None:
    own = model()
    assert (own.airways & chest().airways).sum() > 0.7 * chest().airways.sum()
    for stage in STAGES[:5]:
        found = segment(own.volume, LungConfig(stage=stage), model=own).lungs
        assert (found[chest().airways] > 0).mean() < 0.3
        assert not found[~own.volume.body].any()
    table = chest().hu[:, :6]
    assert table.size
    assert not own.volume.body[:, :6].any()


@pytest.mark.parametrize("stage", STAGES[:5])
def test_a_stage_is_the_same_with_the_model_of_all_three(stage: str) -> None:
    config = LungConfig(stage=stage)
    own, shared = segment(model().volume, config), segment(model().volume, config, model=model())
    np.testing.assert_array_equal(own.labels, shared.labels)
    np.testing.assert_array_equal(own.lungs, shared.lungs)


def test_the_field_raises_the_likelihood() -> None:
    first, last = segment(model().volume, LungConfig(), model=model()).trace
    assert last > first


def test_minimum_filters_find_more_of_the_lesions() -> None:
    ill = chest().lesions == 2
    shares = [
        (segment(model().volume, LungConfig(stage=stage), model=model()).lungs[ill] > 0).mean() for stage in STAGES[:3]
    ]
    assert shares[0] < shares[1] < shares[2]


def test_gas_of_the_stomach_is_no_lung() -> None:
    own = model()
    apart = own.volume.body & ~own.evidence.body & ~own.airways
    air = (chest().hu < -900) & own.volume.body & (chest().lungs == 0) & ~chest().airways
    assert apart[air].mean() > 0.8
    assert not (apart & (chest().lungs > 0)).any()
    found = segment(own.volume, LungConfig(stage="lcg_min5"), model=own)
    assert not found.lungs[apart].any()


def test_what_a_lung_encloses_is_filled_but_the_dome_of_the_diaphragm_is_not() -> None:
    volume, mask = model().volume, np.zeros(chest().hu.shape, bool)
    mask[5:25, 20:60, 60:90] = True
    mask[5:15, 30:50, 65:85] = False  # open below: a dome of 7.5 x 7.6 cm
    mask[18:20, 25:27, 64:66] = False  # a vessel, which runs upwards
    mask[20:26, 25:27, 64:66] = False
    found = lungs(volume, mask, np.ones(mask.shape, bool)) > 0
    assert not found[5:15, 30:50, 65:85].any()
    assert found[18:25, 25:27, 64:66].all()


def test_a_u_net_learns_from_phantoms() -> None:
    made = [phantom(5, (10, 40, 48), lesions=1)]
    other = phantom(6, (10, 42, 44), lesions=1)
    volume = prepared(sample(volume=other.hu, spacing=other.spacing))
    first, again = (fitted_unet(made, 3, 0)(volume) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    found = fitted_unet(made, 60, 0)(volume)
    assert found.shape == other.hu.shape
    assert mask_fit(found, other.lungs, other.spacing).dice > 0.5


def test_baselines_find_lungs() -> None:
    for find in (iterated_modes, threshold_and_morphology):
        assert mask_fit(find(model()), chest().lungs, chest().spacing).dice > 0.9


# -- orientation, padding, units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", ["LPS", "PIR", "SAL"])
def test_another_orientation_gives_the_same_lungs(letters: str) -> None:
    turned = upright(chest().hu, letters, back=True)
    assert upright(turned, letters).tolist() == chest().hu.tolist()
    axes = {"R": 2, "L": 2, "A": 1, "P": 1, "S": 0, "I": 0}
    spacing = [chest().spacing[axes[letter]] for letter in reversed(letters)]
    config = LungConfig(stage="lcg")
    (one,), (two,) = (
        operator.predict(config, [sample()]),
        operator.predict(config, [sample(volume=turned, spacing=spacing, orientation=letters)]),
    )
    assert two["lungs"].shape == turned.shape
    np.testing.assert_array_equal(upright(two["lungs"], letters), one["lungs"])
    assert (two["left_ml"], two["right_ml"]) == (one["left_ml"], one["right_ml"])


def test_padding_changes_nothing() -> None:
    other = np.where(chest().hu < -2000, -3500.4, chest().hu).astype(np.float32)
    (one,), (two,) = (operator.predict(LungConfig(stage="lcg"), [sample(volume=v)]) for v in (chest().hu, other))
    np.testing.assert_array_equal(one["lungs"], two["lungs"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"spacing": None}, "has no 'spacing'"),
        ({"spacing": (1.0, 0.0, 1.0)}, "is no voxel size"),
        ({"orientation": "RAR"}, "names no three axes"),
        ({"modality": "MR"}, "'MR'; lungs are found in CT volumes"),
        ({"unit": "BQML"}, "import it again with unit=HU"),
        ({"volume": np.clip(chest().hu, -1024, 4000).astype(np.int32) + 1024}, "not those of a chest CT in HU"),
        ({"volume": np.where(chest().hu > 0, np.nan, chest().hu)}, "are NaN or infinite"),
        ({"volume": chest().hu[0]}, "needs the axes z, y, x"),
        ({"volume": chest().hu.astype(complex)}, "are no HU"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidSample, match=why):
        operator.predict(LungConfig(), [sample(**changes)])


@pytest.mark.parametrize(
    "setting",
    [
        {"stage": "all"},
        {"most_components": 9},
        {"side": 48},
        {"least_dice": 1.5},
        {"epochs": -1},
        {"width": 6},
        {"learning_rate": 0},
    ],
)
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match=next(iter(setting))):
        LungConfig(**setting)


# -- the network -------------------------------------------------------------------------------------------------------


def test_the_likelihood_never_falls_with_the_network() -> None:
    trace = segment(model().volume, SMALL, model=model()).trace
    assert len(trace) == 4
    assert all(later >= earlier for earlier, later in pairwise(trace))


def test_regions_are_taken_only_where_the_likelihood_rises() -> None:
    evidence = model().evidence
    found = segment(model().volume, LungConfig(), model=model()).labels
    assert improved(evidence, found, found, 0.9) is None
    spoilt = found.copy()
    spoilt[12:15, 38:41, 22:26] = 3 - np.maximum(spoilt[12:15, 38:41, 22:26], 1)
    spoilt[~evidence.body] = 0
    assert (spoilt != found).any()
    assert improved(evidence, found, spoilt, 0.9) is None
    mended = improved(evidence, spoilt, found, 0.9)
    assert mended is not None
    np.testing.assert_array_equal(mended[0], found)
    assert improved(evidence, spoilt, found, 1.0) is None


def test_a_network_that_was_stopped_goes_on_to_the_same_map(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from dataclasses import replace

    import sensorium.jobs.lung_segmentation.refinement as stage

    config = replace(SMALL, patience=3)
    labels = segment(model().volume, LungConfig(), model=model()).labels
    whole = refined(model().evidence, labels, config)
    kept = tmp_path / "a.pt"
    with pytest.MonkeyPatch.context() as patch:
        save = stage._save

        def stopping(*held: Any) -> None:
            save(*held)
            raise KeyboardInterrupt

        patch.setattr(stage, "_save", stopping)
        with pytest.raises(KeyboardInterrupt):
            refined(model().evidence, labels, config, kept)
    resumed = refined(model().evidence, labels, config, kept)
    np.testing.assert_array_equal(resumed[0], whole[0])
    assert resumed[1:] == whole[1:]
    kept.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert refined(model().evidence, labels, replace(config, epochs=0), kept)[2] == ()
    assert "begins anew" in caplog.text


def test_swin_unet_sees_beyond_its_windows_and_all_of_it_learns() -> None:
    torch.manual_seed(0)
    network = SwinUnet(6, 64, 8)
    x = torch.randn(2, 6, 64, 64, requires_grad=True)
    out = network(x)
    assert out.shape == (2, 64, 64)
    out[0, 0, 0].backward()
    assert x.grad is not None
    assert x.grad[0, :, -1, -1].abs().sum() > 0
    assert not x.grad[1].any()
    assert all(one.grad is not None for one in network.parameters())


# -- files and data sets -----------------------------------------------------------------------------------------------


def test_nifti_and_dicom_segmentation_say_where_the_lungs_are(tmp_path: Path) -> None:
    (result,) = operator.predict(LungConfig(stage="lcg", write=str(tmp_path)), [sample(id="one/two")])
    (packed,) = tmp_path.glob("one_two-*_lungs.nii.gz")
    image = nibabel.load(packed)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), result["lungs"])
    np.testing.assert_allclose(np.diag(image.affine)[:3], chest().spacing[::-1], rtol=1e-6)
    data = pydicom.dcmread(packed.with_name(packed.name.replace(".nii.gz", ".dcm")))
    assert (data.Modality, data.SegmentationType) == ("SEG", "BINARY")
    assert [one.SegmentLabel for one in data.SegmentSequence] == ["right lung", "left lung"]
    rebuilt = np.zeros_like(result["lungs"])
    for frame, group in zip(data.pixel_array, data.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        slice_number = round(place[2] / chest().spacing[0])
        rebuilt[slice_number][frame > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(rebuilt, result["lungs"])
    shared = data.SharedFunctionalGroupsSequence[0]
    assert [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient] == [-1, 0, 0, 0, -1, 0]
    assert [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing] == pytest.approx(chest().spacing[1:])


def test_one_lung_or_none_can_be_written(tmp_path: Path) -> None:
    for name, value in (("none", 0), ("left", 2)):
        mask = np.zeros(chest().hu.shape, np.uint8)
        mask[3:5, 4:6, 4:6] = value
        data = pydicom.dcmread(to_dicom_seg(sample(), mask, tmp_path / name))
        assert int(data.pixel_array.sum()) == np.count_nonzero(mask)
        assert to_nifti(sample(), mask, tmp_path / name).is_file()


@pytest.mark.usefixtures("ray_cluster")
def test_spacing_comes_along_with_a_data_set(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    catalog.create("chests", modality="volume", attributes={"unit": "HU"}).append(
        [{key: value for key, value in sample().items() if key != "unit"}]
    )
    done = operate(catalog, configured("lung_segmentation", ["stage=lcg"]), "chests", "lungs", Settings(), workers=1)
    assert (done.computed, done.errors) == (1, 0)
    (expected,) = operator.predict(LungConfig(stage="lcg"), [sample()])
    row = catalog["lungs"].select()["a"]
    np.testing.assert_array_equal(row["lungs"], expected["lungs"])
    assert row["right_ml"] == pytest.approx(expected["right_ml"])
