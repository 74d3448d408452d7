"""Every modality keeps the contract of its field names, accepts what it declares, draws it, and says what is wrong."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure

from sensorium.catalog.fields import ArrayField, ScalarField, from_column
from sensorium.catalog.importer import Importer, Source
from sensorium.catalog.modalities import _drawing
from sensorium.catalog.modality import GROUP, Modality, get
from sensorium.platform import plugins
from sensorium.platform.errors import UnknownPlugin

SHARED = Path(__file__).parents[2] / "../shared/data"

#: the field names that users rely on: arrays with their axes, then scalars
CONTRACT: dict[str, tuple[dict[str, str], set[str]]] = {
    "image": ({"image": "H W C", "mask": "H W", "labels": "H W"}, set()),
    "panorama": ({"image": "H W C", "mask": "H W", "labels": "H W"}, set()),
    "image_pair": ({"before": "H W C", "after": "H W C", "change": "H W"}, set()),
    "hyperspectral": ({"cube": "H W L"}, {"wavelength"}),
    "volume": ({"volume": "Z Y X", "mask": "Z Y X"}, {"spacing", "orientation", "unit"}),
    "audio": ({"audio": "T | C T"}, {"sampling_rate"}),
    "series": (
        {"times": "N", "variables": "N", "values": "N", "signal": "C T"},
        {"sampling_rate", "channels", "variable_names"},
    ),
    "video": ({"frames": "T H W C", "encoded": "B"}, {"frame_rate"}),
    "scene": (
        {"images": "V H W C", "intrinsics": "V K0 K1", "poses": "V P0 P1", "masks": "V H W"},
        set(),
    ),
    "table": ({}, set()),
}

#: what a sample needs beyond zeros of the declared shapes
VALID: dict[str, dict[str, Any]] = {
    "hyperspectral": {"wavelength": [450.0, 550.0, 650.0, 750.0, 850.0]},
    "volume": {"spacing": [2.0, 1.0, 1.0], "orientation": "RAS", "unit": "HU"},
    "audio": {"sampling_rate": 8000.0},
    "series": {"sampling_rate": 10.0, "variable_names": ["pulse"], "channels": [f"c{i}" for i in range(5)]},
    "video": {"frame_rate": 25.0, "encoded": None},
    "scene": {
        "intrinsics": np.tile(np.diag([100.0, 100.0, 1.0]), (5, 1, 1)),
        "poses": np.tile(np.eye(4), (5, 1, 1)),
    },
}
LENGTHS = {"H": 8, "W": 16}


def fake(modality: Modality) -> dict[str, Any]:
    """A sample with every declared field, of the first declared shape and dtype."""
    sample: dict[str, Any] = {}
    for name, field in modality.arrays.items():
        axes = field.layouts[0] if field.layouts else ("N",)
        shape = tuple(field.sizes[axis][-1] if axis in field.sizes else LENGTHS.get(axis, 5) for axis in axes)
        dtype = np.dtype(field.dtypes[0] if field.dtypes else "float32")
        ramp = np.arange(math.prod(shape)).reshape(shape)
        sample[name] = ramp.astype(dtype) if field.minimum is None else np.zeros(shape, dtype)
    return {**sample, **VALID.get(modality.name, {})}


def problems(modality: Modality, sample: Mapping[str, Any]) -> list[str]:
    return [violation.field for violation in modality.check(sample)] if modality.check else []


def drawn(modality: Modality, sample: Mapping[str, Any]) -> Any:
    """Axes with the preview of ``sample``, rendered, so that what would fail or warn at rendering does."""
    assert modality.preview is not None
    figure = Figure(figsize=(2, 2))
    axes = figure.add_subplot()
    modality.preview(axes, sample)
    figure.canvas.draw()
    return axes


@pytest.fixture(params=plugins.names(GROUP))
def modality(request: pytest.FixtureRequest) -> Modality:
    return get(request.param)


def test_every_modality_of_the_contract_is_installed() -> None:
    assert set(CONTRACT) <= set(plugins.names(GROUP))


def test_an_unknown_modality_is_an_error_with_close_names() -> None:
    with pytest.raises(UnknownPlugin, match="hyperspectral"):
        get("hyperspektral")


@pytest.mark.parametrize("name", CONTRACT)
def test_field_names_and_axes_are_those_of_the_contract(name: str) -> None:
    arrays, scalars = CONTRACT[name]
    found = get(name)
    assert {field.name: field.dims for field in found.arrays.values()} == arrays
    assert set(found.scalars) == scalars


def test_declarations_are_complete(modality: Modality) -> None:
    assert modality.title
    for field in modality.fields:
        assert from_column(field.column()) == field  # the declaration survives the table
        assert field.description
        if isinstance(field, ArrayField):
            assert all(np.dtype(dtype).kind in "biufc" for dtype in field.dtypes)
            axes = {axis for layout in field.layouts for axis in layout}
            assert set(field.sizes) <= axes
            assert set(field.coordinates) <= axes
            assert set(field.coordinates.values()) <= set(modality.scalars)
        else:
            assert isinstance(field, ScalarField)
            assert not field.dims or any(field.dims in array.dims.split() for array in modality.arrays.values())


def test_what_is_declared_is_accepted_and_drawn(modality: Modality) -> None:
    sample = fake(modality)
    assert problems(modality, sample) == []
    for name, field in modality.scalars.items():
        if sample.get(name) is not None:
            pa.array([sample[name]], type=field.type)  # raises where the fake is not of the declared type
    if modality.arrays:
        assert drawn(modality, sample).has_data()
    else:
        assert modality.preview is None


def test_a_minimal_sample_is_accepted_and_drawn(modality: Modality) -> None:
    """Only what is required, and one field of a modality that requires none but needs some."""
    whole = fake(modality)
    enough = {"series": {"times", "variables", "values"}, "video": {"frames"}}.get(modality.name, set())
    required = {field.name for field in modality.fields if field.required} | enough
    sample = {name: value for name, value in whole.items() if name in required}
    assert problems(modality, sample) == []
    if modality.arrays:
        assert drawn(modality, sample).has_data()


def test_rules_say_nothing_of_what_the_declarations_refuse(modality: Modality) -> None:
    """Fields that are absent or of another rank are for the declared checks; rules must not fail on them."""
    flat = {
        name: np.ones(3, np.float32) if name in modality.arrays else value for name, value in fake(modality).items()
    }
    assert set(problems(modality, flat)) <= set(flat)
    assert set(problems(modality, {})) <= {field.name for field in modality.fields}


def test_heavy_packages_are_not_imported() -> None:
    """Listing modalities and importers must not cost the import of what only drawing or decoding needs."""
    code = (
        "import sys\n"
        "from sensorium.platform import plugins\n"
        "plugins.load_all('sensorium.modalities'); plugins.load_all('sensorium.importers')\n"
        "heavy = {'torch', 'ray', 'matplotlib', 'PIL', 'soundfile', 'nibabel', 'cv2', 'av', 'scipy'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


_POSES = np.tile(np.eye(4), (5, 1, 1))


def _pose(**changes: Any) -> np.ndarray[Any, Any]:
    """Five poses, the fourth of them changed: ``row``, ``scale`` or ``mirror``."""
    poses = _POSES.copy()
    if "row" in changes:
        poses[3, 3] = changes["row"]
    poses[3, :3, :3] *= changes.get("scale", 1.0)
    if "mirror" in changes:
        poses[3, 0, 0] = -1
    return poses


@pytest.mark.parametrize(
    ("name", "changes", "field", "says"),
    [
        ("panorama", {"image": np.zeros((8, 15, 3), np.uint8)}, "image", "15 x 8"),
        ("hyperspectral", {"wavelength": [450.0, 550.0, 550.0, 750.0, 850.0]}, "wavelength", "550.0 nm at band 1"),
        ("hyperspectral", {"wavelength": [0.0, 550.0, 650.0, 750.0, 850.0]}, "wavelength", "got 0.0 at band 0"),
        ("hyperspectral", {"wavelength": [450.0, math.nan, 650.0, 750.0, 850.0]}, "wavelength", "nan at band 1"),
        ("volume", {"spacing": [1.0, 1.0]}, "spacing", "three"),
        ("volume", {"spacing": [1.0, 0.0, 1.0]}, "spacing", "above 0"),
        ("volume", {"spacing": [1.0, math.inf, 1.0]}, "spacing", "inf"),
        ("volume", {"orientation": "RAP"}, "orientation", "'RAP'"),
        ("volume", {"orientation": "XYZ"}, "orientation", "'XYZ'"),
        ("audio", {"sampling_rate": 0.0}, "sampling_rate", "above 0"),
        ("audio", {"sampling_rate": math.nan}, "sampling_rate", "nan"),
        ("audio", {"audio": np.zeros(0, np.float32)}, "audio", "no sound"),
        ("audio", {"audio": np.zeros((48000, 2), np.float32)}, "audio", r"\[T, C\]"),
        ("series", {"times": np.array([0.0, 2.0, 1.0, 3.0, 4.0])}, "times", "2.0 at index 1, then 1.0"),
        ("series", {"variables": np.array([0, 0, 1, 0, 0])}, "variables", "index 1 is beyond the 1"),
        ("series", {"values": None}, "values", "incomplete"),
        ("series", {"sampling_rate": None}, "sampling_rate", "needs its rate"),
        ("series", {"sampling_rate": -1.0}, "sampling_rate", "-1"),
        ("series", dict.fromkeys(("signal", "times", "variables", "values")), "signal", "neither"),
        ("video", {"frames": None}, "frames", "neither"),
        ("video", {"frame_rate": 0.0}, "frame_rate", "above 0"),
        ("scene", {"intrinsics": np.zeros((5, 3, 3))}, "intrinsics", "view 0"),
        ("scene", {"poses": _pose(row=[0, 0, 1, 1])}, "poses", "view 3 has"),
        ("scene", {"poses": _pose(scale=1.01)}, "poses", "view 3 is off by"),
        ("scene", {"poses": _pose(mirror=True)}, "poses", "view 3 is mirrored"),
    ],
)
def test_a_broken_rule_is_named(name: str, changes: dict[str, Any], field: str, says: str) -> None:
    modality = get(name)
    assert modality.check is not None
    found = list(modality.check({**fake(modality), **changes}))
    assert [violation.field for violation in found] == [field]
    assert re.search(says, found[0].problem), found[0].problem
    assert found[0].remedy
    assert not found[0].remedy.endswith(".")  # the message that it becomes part of ends the sentence
    assert not found[0].problem.endswith(".")


def test_rules_allow_what_is_at_their_edge() -> None:
    rounded = _pose(scale=1.0001)  # float32 poses are orthonormal to about 1e-4
    assert problems(get("scene"), {**fake(get("scene")), "poses": rounded.astype(np.float32)}) == []
    equal = np.zeros(5)
    assert problems(get("series"), {**fake(get("series")), "times": equal}) == []  # several values at one time
    without = {**fake(get("series")), "variable_names": None}
    assert problems(get("series"), without) == []


# previews


def test_previews_of_large_samples_draw_few_pixels_and_points() -> None:
    large = {"image": np.zeros((3000, 5000, 3), np.uint8), "mask": np.eye(3000, 5000, dtype=bool)}
    assert max(drawn(get("image"), large).images[0].get_array().shape) <= _drawing.SIDE
    noise = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    line = drawn(get("audio"), {"audio": noise, "sampling_rate": 1000.0}).lines[0]
    assert len(line.get_xdata()) <= 2 * _drawing.POINTS + 10
    assert line.get_xdata()[-1] == pytest.approx(1000, rel=0.01)  # seconds


def test_a_peak_of_one_sample_is_still_drawn() -> None:
    audio = np.zeros(1_000_000, np.float32)
    audio[654_321] = 1
    line = drawn(get("audio"), {"audio": audio, "sampling_rate": 1e6}).lines[0]
    peak = line.get_xdata()[np.argmax(line.get_ydata())]
    assert peak == pytest.approx(0.654321, abs=0.002)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1, 1), np.uint8),
        np.full((4, 4, 3), 7, np.uint16),
        np.full((4, 4, 3), np.nan, np.float32),
        np.full((4, 4, 1), 310.5, np.float64),
        np.zeros((4, 4, 4), np.uint16),
        np.zeros((4, 4, 4), np.int16),
        np.ones((4, 4, 4), np.float32),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)
def test_pictures_of_every_kind_are_drawn_in_range(image: Any) -> None:
    rgb = _drawing.to_rgb(image)
    assert rgb.shape == (*image.shape[:2], 3)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert drawn(get("image"), {"image": image, "mask": np.ones(image.shape[:2], bool)}).has_data()


def test_transparent_parts_are_drawn_white() -> None:
    image = np.zeros((2, 2, 4), np.uint8)
    image[0, :, 3] = 255
    rgb = _drawing.to_rgb(image)
    assert (rgb[0] == 0).all()
    assert (rgb[1] == 1).all()


def test_stretching_maps_percentiles_per_band() -> None:
    band = np.linspace(1000, 3000, 101)
    stretched = _drawing.stretch(np.stack([band, 10 * band], axis=-1)[np.newaxis])
    assert stretched[0, 50] == pytest.approx([0.5, 0.5])
    assert stretched[0, 0] == pytest.approx([0, 0])
    assert stretched[0, 100] == pytest.approx([1, 1])


def test_composites_use_the_bands_nearest_to_red_green_and_blue() -> None:
    wavelength = np.arange(400.0, 1000.0, 10).tolist()
    assert [wavelength[band] for band in _drawing.nearest_bands(wavelength, 60)] == [640, 550, 460]
    infrared = np.arange(900.0, 1700.0, 10).tolist()
    assert _drawing.nearest_bands(infrared, 80) == _drawing.spread_bands(80)
    assert _drawing.nearest_bands(None, 3) == [2, 1, 0]


def test_pairs_of_thirteen_bands_are_drawn_in_one_scale() -> None:
    before = np.full((6, 5, 13), 100, np.uint16)
    after = np.full((6, 5, 13), 200, np.uint16)
    change = np.zeros((6, 5), np.uint8)
    change[2:4, 2:4] = 1
    axes = drawn(get("image_pair"), {"before": before, "after": after, "change": change})
    shown = axes.images[0].get_array()
    assert (shown[:, :5] == 0).all()
    assert (shown[:, -5:] == 1).all()
    assert axes.collections  # the outline


@pytest.mark.parametrize(("orientation", "corner"), [("RAS", (-1, -1)), ("LPS", (0, 0)), (None, (0, 0))])
def test_slices_are_hung_front_up_and_right_on_the_left(orientation: str | None, corner: tuple[int, int]) -> None:
    """The voxel at the patient's right front is drawn in the upper left corner, whatever the orientation."""
    volume = np.zeros((3, 4, 5), np.float32)
    volume[1][corner] = 100  # RAS: x and y grow to right and front, so the last ones are there
    axes = drawn(get("volume"), {"volume": volume, "spacing": [5.0, 2.0, 1.0], "orientation": orientation})
    shown = np.asarray(axes.images[0].get_array())
    assert shown.argmax() == 0
    assert axes.get_aspect() == 2.0


def test_at_most_eight_variables_are_drawn_by_name() -> None:
    variables = np.repeat(np.arange(12), np.arange(1, 13))
    sample = {
        "times": np.sort(np.random.default_rng(0).uniform(0, 48, len(variables))),
        "variables": variables,
        "values": np.arange(len(variables), dtype=np.float32),
        "variable_names": [f"v{i}" for i in range(12)],
    }
    axes = drawn(get("series"), sample)
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"v{i}" for i in range(4, 12)]
    assert len(axes.lines) == 8


# exports: what is written reads back identically through the importer


def reimported(importer: str, path: Path, folder: Path) -> dict[str, Any]:
    """The one sample that ``importer`` makes of ``folder``, where ``path`` was written."""
    found: Importer = plugins.load("sensorium.importers", importer, Importer)
    (item,) = found.plan(Source(folder))
    assert item.paths[0] == path
    return found.read(item, {})


def exported(name: str, sample: Mapping[str, Any], importer: str) -> dict[str, Any]:
    export = get(name).export
    assert export is not None
    with tempfile.TemporaryDirectory() as folder:
        return reimported(importer, export(sample, Path(folder) / "a.b"), Path(folder))


def identical(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other))


def _images() -> st.SearchStrategy[Any]:
    side = st.integers(1, 9)
    shapes = st.tuples(side, side, st.sampled_from([1, 3, 4]))
    grey = st.tuples(side, side, st.just(1))
    whole = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
    return whole | hnp.arrays(np.float32, grey, elements=st.floats(-1e6, 1e6, width=32))


@settings(max_examples=40, deadline=None)
@given(image=_images(), marked=st.booleans())
def test_images_survive_export_and_import(image: Any, marked: bool) -> None:
    labels = (np.arange(image[..., 0].size) % 300).reshape(image.shape[:2]).astype(np.uint16)
    mask = labels % 2 == 1
    sample = {"image": image, "mask": mask, "labels": labels} if marked else {"image": image}
    back = exported("image", sample, "image_folder")
    assert identical(back["image"], image)
    assert ("mask" in back) == marked
    if marked:
        assert np.array_equal(back["mask"] != 0, mask)
        assert np.array_equal(back["labels"], labels)


def test_images_that_png_and_tiff_cannot_hold_are_written_as_npz(tmp_path: Path) -> None:
    export = get("image").export
    assert export is not None
    image = np.random.default_rng(0).normal(size=(3, 4, 3))
    path = export({"image": image}, tmp_path / "x" / "a")
    assert path == tmp_path / "x" / "a.npz"
    with np.load(path) as stored:
        assert identical(stored["image"], image)


@settings(max_examples=30, deadline=None)
@given(
    audio=st.sampled_from([np.int16, np.float32]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.one_of(st.tuples(st.integers(1, 50)), st.tuples(st.integers(2, 4), st.integers(1, 30))),
            elements=st.floats(-2, 2, width=32) if dtype is np.float32 else None,
        )
    ),
    rate=st.integers(1, 192_000),
)
def test_audio_survives_export_and_import(audio: Any, rate: int) -> None:
    back = exported("audio", {"audio": audio, "sampling_rate": float(rate)}, "audio_files")
    assert identical(back["audio"], audio)
    assert back["sampling_rate"] == rate


def test_audio_of_a_fractional_rate_is_written_as_npz(tmp_path: Path) -> None:
    export = get("audio").export
    assert export is not None
    path = export({"audio": np.ones(5, np.float32), "sampling_rate": 0.5}, tmp_path / "a")
    with np.load(path) as stored:
        assert stored["sampling_rate"] == 0.5
        assert len(stored["audio"]) == 5


@settings(max_examples=30, deadline=None)
@given(
    volume=st.sampled_from([np.uint8, np.int16, np.int32, np.float32]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(*[st.integers(1, 5)] * 3),
            elements=st.floats(-3500, 3000, width=32) if dtype is np.float32 else None,
        )
    ),
    spacing=st.lists(st.floats(0.125, 10, width=32), min_size=3, max_size=3),
    marked=st.booleans(),
)
def test_volumes_survive_export_and_import(volume: Any, spacing: list[float], marked: bool) -> None:
    sample = {"volume": volume, "spacing": spacing, "orientation": "RAS"}
    mask = (np.arange(volume.size) % 3).reshape(volume.shape).astype(np.uint8)
    back = exported("volume", {**sample, "mask": mask} if marked else sample, "nifti")
    assert identical(back["volume"], volume)
    assert back["spacing"] == pytest.approx(spacing, rel=1e-6)
    assert back["orientation"] == "RAS"
    assert not marked or identical(back["mask"], mask)


def test_a_volume_of_another_orientation_comes_back_turned() -> None:
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    back = exported("volume", {"volume": volume, "orientation": "LPS"}, "nifti")
    assert identical(back["volume"], volume[:, ::-1, ::-1])


def test_a_volume_keeps_its_place_in_space() -> None:
    affine = np.array([[2.0, 0, 0, -90], [0, 2, 0, 30], [0, 0, 3, 7], [0, 0, 0, 1]])
    sample = {"volume": np.ones((2, 3, 4), np.int16), "spacing": [3.0, 2.0, 2.0], "affine": affine.ravel().tolist()}
    assert exported("volume", sample, "nifti")["affine"] == pytest.approx(sample["affine"])
    resampled = {**sample, "spacing": [1.0, 1.0, 1.0]}  # the matrix is another grid's, and is not used
    assert exported("volume", resampled, "nifti")["spacing"] == [1.0, 1.0, 1.0]


# real data


def shared(place: str) -> Path:
    path = SHARED / place
    if not path.exists():
        pytest.skip(f"the folder of sample data {SHARED} has no {place}")
    return path


def test_real_pairs_of_thirteen_bands() -> None:
    with np.load(shared("change/oscd_sentinel2/bercy.npz")) as stored:
        before, after = (stored[name].transpose(1, 2, 0) for name in ("t1", "t2"))
        sample = {"before": before, "after": after, "change": stored["change"]}
    assert before.shape[2] == 13
    assert problems(get("image_pair"), sample) == []
    assert drawn(get("image_pair"), sample).has_data()


def test_real_signals() -> None:
    with np.load(shared("eeg/eegmat/npz125/Subject16.npz")) as stored:
        sample = {"signal": stored["rest"], "sampling_rate": 125.0, "channels": [str(i) for i in range(21)]}
    assert sample["signal"].dtype == np.int16
    assert problems(get("series"), sample) == []
    assert len(drawn(get("series"), sample).lines) == 21


def test_real_encoded_video() -> None:
    pytest.importorskip("av")
    stream = np.fromfile(shared("video/umi_cup/umi_cup_in_the_wild_ep000000.mp4"), dtype=np.uint8)
    sample = {"encoded": stream, "frame_rate": 10.0}
    assert problems(get("video"), sample) == []
    assert drawn(get("video"), sample).images[0].get_array().shape == (224, 224, 3)
