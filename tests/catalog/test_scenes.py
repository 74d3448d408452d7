"""Cameras of scenes: what is in the world is seen where the pictures show it, whatever the layout."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.catalog.preview import sample_sheet, stepper
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, picture, refusal, shared, write

Array = npt.NDArray[Any]

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
#: Coloured points of the made-up world, in front of all its cameras.
POINTS = np.random.default_rng(4).uniform(-1, 1, (25, 3))
COLOURS = np.random.default_rng(5).integers(1, 256, (25, 3))


def cameras(count: int = 4) -> list[tuple[Array, Array]]:
    """Rotations and translations from the world to cameras (x right, y down, z forward) that look at the origin."""
    found = []
    for index in range(count):
        angle = 0.5 * index
        place = 5 * np.array([math.sin(angle), 0.3 * index - 0.4, -math.cos(angle)])
        forward = -place / np.linalg.norm(place)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        found.append((rotation, -rotation @ place))
    return found


def seen(rotation: Array, shift: Array) -> Array:
    """Pixels [N, 2], x and y, of the points; by COLMAP's formulas, with the centre of the picture as the principal point."""
    x, y, z = rotation @ POINTS.T + shift[:, None]
    return np.stack([FOCAL * x / z + WIDTH / 2, FOCAL * y / z + HEIGHT / 2], axis=1)


def shot(rotation: Array, shift: Array) -> Array:
    """A picture [H, W, 3], black but for the points; the nearest is drawn last."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    depth = (rotation @ POINTS.T + shift[:, None])[2]
    for index in np.argsort(-depth):
        x, y = seen(rotation, shift)[index]
        image[int(y), int(x)] = COLOURS[index]
    return image


def pictures(folder: Path) -> list[str]:
    names = [f"Bild {index}.png" for index in range(len(cameras()))]
    for name, camera in zip(names, cameras(), strict=True):
        picture(folder / name, shot(*camera))
    return names


def quaternion(rotation: Array) -> Array:
    w = math.sqrt(max(0.0, 1 + np.trace(rotation))) / 2
    x, y, z = (rotation[(i + 2) % 3, (i + 1) % 3] - rotation[(i + 1) % 3, (i + 2) % 3] for i in range(3))
    return np.array([w, x / (4 * w), y / (4 * w), z / (4 * w)])


def colmap_bytes(folder: Path, names: list[str]) -> None:
    """A model as COLMAP's documentation of its binary format says."""
    write(
        folder / "cameras.bin",
        struct.pack("<QiiQQ4d", 1, 7, 1, WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2),
    )
    content = struct.pack("<Q", len(names))
    for number, (name, (rotation, shift)) in reversed(list(enumerate(zip(names, cameras(), strict=True)))):
        content += struct.pack("<i7di", number + 1, *quaternion(rotation), *shift, 7) + name.encode() + b"\0"
        content += struct.pack("<Q", len(POINTS))
        content += b"".join(struct.pack("<2dq", *xy, place) for place, xy in enumerate(seen(rotation, shift)))
    write(folder / "images.bin", content)
    content = struct.pack("<Q", len(POINTS))
    for place, (point, colour) in enumerate(zip(POINTS, COLOURS, strict=True)):
        content += struct.pack("<Q3d3Bd", place, *point, *colour.tolist(), 0.5) + struct.pack("<Q2i", 1, 1, place)
    write(folder / "points3D.bin", content)


def colmap_text(folder: Path, names: list[str], camera: str = "") -> None:
    plain = camera or f"SIMPLE_RADIAL {WIDTH} {HEIGHT} {FOCAL} {WIDTH / 2} {HEIGHT / 2} -0.0625"
    write(folder / "cameras.txt", f"# Camera list\n7 {plain}\n")
    lines = ["# Image list with two lines of data per image:"]
    for number, (name, (rotation, shift)) in enumerate(zip(names, cameras(), strict=True)):
        place = " ".join(repr(float(value)) for value in (*quaternion(rotation), *shift))
        lines += [f"{number + 1} {place} 7 {name}", "" if number == 1 else "1.5 2.5 -1 3.5 4.5 0"]
    write(folder / "images.txt", "\n".join(lines) + "\n")
    rows = [
        f"{place} {' '.join(repr(float(value)) for value in point)} {' '.join(map(str, colour))} 0.5 1 {place}"
        for place, (point, colour) in enumerate(zip(POINTS, COLOURS, strict=True))
    ]
    write(folder / "points3D.txt", "# 3D point list\n" + "\n".join(rows) + "\n")


def opengl(rotation: Array, shift: Array) -> Array:
    """The pose of a camera, as NeRF writes it: to the world, from x right, y up, z backward."""
    pose = np.eye(4)
    pose[:3, :3] = rotation.T @ np.diag([1, -1, -1])
    pose[:3, 3] = -rotation.T @ shift
    return pose


def nerf(path: Path, names: list[str], **more: Any) -> Path:
    frames = [
        {"file_path": name, "transform_matrix": opengl(*camera).tolist()}
        for name, camera in zip(names, cameras(), strict=True)
    ]
    angle = 2 * math.atan(WIDTH / 2 / FOCAL)
    return write(path, json.dumps({"camera_angle_x": angle, **more, "frames": frames}))


def llff(path: Path) -> Path:
    rows = []
    for rotation, shift in cameras():
        pose = opengl(rotation, shift)
        right, up, back, place = pose[:3].T
        rows.append([*np.stack([-up, right, back, place, [HEIGHT, WIDTH, FOCAL]], axis=1).ravel(), 3.5, 6.5])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(rows))
    return path


def check_geometry(sample: dict[str, Any], scale: int = 1) -> None:
    """Every point is where the picture shows it, and the poses are those of the cameras."""
    shown = 0
    for view, (rotation, shift) in enumerate(cameras()):
        pose, matrix, image = (sample[name][view] for name in ("poses", "intrinsics", "images"))
        world_to_camera = np.linalg.inv(pose)
        x, y, z = matrix @ (world_to_camera[:3, :3] @ POINTS.T + world_to_camera[:3, 3:])
        assert np.allclose(np.stack([x / z, y / z], axis=1), seen(rotation, shift) * scale, atol=1e-5)
        assert (z > 0).all()
        shown += sum(
            np.array_equal(image[int(v), int(u), :3], colour)
            for u, v, colour in zip(x / z, y / z, COLOURS, strict=True)
        )
    assert shown > 0.85 * len(POINTS) * len(cameras())  # a few are hidden by others


def made_colmap(folder: Path, form: Callable[[Path, list[str]], None]) -> None:
    form(folder / "sparse/0", pictures(folder / "images"))


@pytest.mark.parametrize("form", [colmap_bytes, colmap_text])
def test_points_of_colmap_are_where_the_pictures_show_them(
    tmp_path: Path, form: Callable[[Path, list[str]], None]
) -> None:
    made_colmap(tmp_path / "Straße 1", form)
    samples = imported("scenes", tmp_path)
    assert list(samples) == ["Straße 1"]
    sample = samples["Straße 1"]
    assert sample["layout"] == "colmap"
    assert sample["views"] == [f"Bild {index}.png" for index in range(4)]
    check_geometry(sample)
    assert sample["points"].dtype == np.float64
    assert np.array_equal(sample["points"], POINTS)
    assert sample["point_colours"].dtype == np.uint8
    assert np.array_equal(sample["point_colours"], COLOURS)
    assert sample["images"].dtype == np.uint8
    if form is colmap_text:
        assert sample["distortion"].tolist() == [[-0.0625, 0, 0, 0, 0]] * 4
    else:
        assert "distortion" not in sample
    modality = modalities.get("scene")
    assert modality.check is not None
    assert list(modality.check(sample)) == []


def test_nerf_poses_and_masks(tmp_path: Path) -> None:
    names = pictures(tmp_path / "train")
    for name, camera in zip(names, cameras(), strict=True):
        image = shot(*camera)
        alpha = np.where(image.any(axis=2), 255, 10).astype(np.uint8)
        picture(tmp_path / "train" / name, np.dstack([image, alpha]))
    nerf(tmp_path / "transforms_train.json", [f"./train/{name.removesuffix('.png')}" for name in names])
    nerf(tmp_path / "transforms_test.json", [f"./train/{name}" for name in names], fl_x=60.0, fl_y=61.0, cx=30, cy=20.5)
    samples = imported("scenes", tmp_path)
    assert {name: sample["split"] for name, sample in samples.items()} == {"train": "train", "test": "test"}
    check_geometry(samples["train"])
    assert samples["train"]["images"].shape == (4, HEIGHT, WIDTH, 4)
    assert np.array_equal(samples["train"]["masks"], samples["train"]["images"][..., :3].any(axis=3))
    assert samples["test"]["intrinsics"][3].tolist() == [[60, 0, 30], [0, 61, 20.5], [0, 0, 1]]


def test_pictures_of_another_size_than_said_scale_the_intrinsics(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(4)]
    for name, camera in zip(names, cameras(), strict=True):
        picture(tmp_path / "images" / name, shot(*camera).repeat(2, 0).repeat(2, 1))
    nerf(tmp_path / "transforms.json", [f"images/{name}" for name in names], w=WIDTH, h=HEIGHT, k1=0.1, p2=0.2)
    sample = imported("scenes", tmp_path)[tmp_path.name]
    check_geometry(sample, scale=2)
    assert sample["distortion"][2].tolist() == [0.1, 0, 0, 0.2, 0]
    (tmp_path / "transforms.json").unlink()
    llff(tmp_path / "poses_bounds.npy")
    check_geometry(imported("scenes", tmp_path)[tmp_path.name], scale=2)


@pytest.mark.parametrize("form", ["bytes", "text", "nerfstudio", "instant-ngp"])
def test_fisheyes_keep_their_distortion(tmp_path: Path, catalog: Catalog, form: str) -> None:
    folder = tmp_path / "in"
    terms = [0.1, -0.02, 0.003, -0.0004]
    focal = [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]
    if form == "text":
        parameters = " ".join(map(str, [*focal, *terms]))
        camera = f"OPENCV_FISHEYE {WIDTH} {HEIGHT} {parameters}"
        colmap_text(folder / "sparse/0", pictures(folder / "images"), camera)
    elif form == "bytes":
        made_colmap(folder, colmap_bytes)
        packed = struct.pack("<QiiQQ8d", 1, 7, 5, WIDTH, HEIGHT, *focal, *terms)
        write(folder / "sparse/0/cameras.bin", packed)
    else:
        said = {"camera_model": "OPENCV_FISHEYE"} if form == "nerfstudio" else {"is_fisheye": True}
        numbers = dict(zip(("k1", "k2", "k3", "k4"), terms, strict=True))
        nerf(folder / "transforms.json", pictures(folder), **said, **numbers)
    (sample,) = imported("scenes", folder).values()
    assert sample["cameras"] == ["fisheye"] * 4
    assert sample["distortion"].tolist() == [[*terms, 0]] * 4
    assert np.allclose(sample["intrinsics"], [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    assert catalog.ingest(folder, "scenes").added == 1


def test_llff(tmp_path: Path) -> None:
    pictures(tmp_path / "fern" / "images_4")
    llff(tmp_path / "fern" / "poses_bounds.npy")
    sample = imported("scenes", tmp_path, images="images_4")["fern"]
    check_geometry(sample)
    assert (sample["near"], sample["far"]) == ([3.5] * 4, [6.5] * 4)
    assert "0 pictures. Name the folder" in refusal("scenes", tmp_path)


def test_of_several_layouts_one_is_taken(tmp_path: Path) -> None:
    made_colmap(tmp_path / "fern", colmap_text)
    colmap_bytes(tmp_path / "fern/sparse/1", pictures(tmp_path / "fern/images"))
    llff(tmp_path / "fern/poses_bounds.npy")
    assert set(imported("scenes", tmp_path)) == {"fern/0", "fern/1"}
    assert imported("scenes", tmp_path, layout="llff")["fern"]["layout"] == "llff"
    with pytest.raises(InvalidSetting, match="layout"):
        imported("scenes", tmp_path, layout="blender")


def test_scenes_are_surer_than_folders_of_pictures_and_go_in_once(tmp_path: Path, catalog: Catalog) -> None:
    made_colmap(tmp_path / "in/a", colmap_bytes)
    nerf(tmp_path / "in/b c/transforms.json", pictures(tmp_path / "in/b c"))
    write(tmp_path / "in/metadata.csv", "id,place\na,indoors\n")
    assert choose_importer(Source(tmp_path / "in")).name == "scenes"
    assert choose_importer(Source(tmp_path / "in/b c/transforms.json")).name == "scenes"
    report = catalog.ingest(tmp_path / "in", "scenes")
    assert (report.added, report.failed) == (2, [])
    assert catalog.ingest(tmp_path / "in", "scenes").added == 0
    stored = catalog["scenes"].select()["a"]
    assert np.array_equal(stored["points"], POINTS)
    assert stored["place"] == "indoors"
    assert catalog["scenes"].preview().content.startswith(b"\x89PNG")
    sample_sheet(catalog["scenes"].select(), "a", tmp_path / "sheet.png")
    stepper(catalog["scenes"].select(), "b c", tmp_path / "steps.html")


def test_other_json_and_arrays_are_not_claimed(tmp_path: Path) -> None:
    write(tmp_path / "transforms.json", '{"frames": 3}')
    write(tmp_path / "images.txt", "1 2 3\n")
    write(tmp_path / "cameras.txt", "a b c d e f\n")
    np.save(tmp_path / "poses_bounds.npy", np.zeros((3, 5)))
    pictures(tmp_path)
    assert importer("scenes").matches(Source(tmp_path)) == 0


def test_views_of_two_sizes_are_refused_by_name(tmp_path: Path) -> None:
    names = pictures(tmp_path)
    picture(tmp_path / names[2], np.zeros((10, 20, 3), np.uint8))
    path = nerf(tmp_path / "transforms.json", names)
    text = refusal("scenes", path)
    assert "Bild 0.png has 64 x 48 pixels, Bild 2.png has 20 x 10" in text
    picture(tmp_path / names[2], np.zeros((HEIGHT, WIDTH), np.uint8))
    assert "Bild 2.png is (48, 64, 1) of uint8" in refusal("scenes", path)


def _edited(document: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**document, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"frames": []}, "no list of frames"),
        ({"frames": [7]}, "frame 0 is no object"),
        ({"frames": [{"transform_matrix": []}]}, "frame 0 names no file"),
        ({"frames": [{"file_path": "Bild 0.png", "transform_matrix": [[1, 2]]}]}, "no 4 x 4"),
        ({"frames": [{"file_path": "Bild 0.png", "transform_matrix": [[math.nan] * 4] * 4}]}, "no 4 x 4"),
        ({"frames": [{"file_path": "/etc/passwd", "transform_matrix": []}]}, "outside of"),
        ({"frames": [{"file_path": "../../x.png", "transform_matrix": []}]}, "outside of"),
        ({"frames": [{"file_path": "x\0.png", "transform_matrix": []}]}, "names the picture"),
        ({"frames": [{"file_path": "Bild 9.png", "transform_matrix": []}]}, "which is not there"),
        ({"camera_angle_x": 4}, "not between 0 and pi"),
        ({"camera_angle_x": None}, "no focal length"),
        ({"fl_x": "60"}, "no finite number"),
        ({"camera_model": "FISHEYE624"}, "of a camera of model FISHEYE624"),
        ({"w": 64, "h": 64}, "is said to have 64 x 64 pixels"),
    ],
)
def test_broken_transforms_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    path = nerf(tmp_path / "transforms.json", pictures(tmp_path))
    whole = json.loads(path.read_text())
    # the words that make it a file of transforms stay in it
    write(path, _edited(whole, **changes, note={"frames": 0, "transform_matrix": 0}))
    text = refusal("scenes", path)
    assert text.startswith(f"{path}: ")
    assert says in text


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("cameras.bin", lambda whole: whole[:-1], "within an entry"),
        ("cameras.bin", lambda whole: whole + b"x", "1 bytes too many"),
        ("cameras.bin", lambda whole: whole[:12] + struct.pack("<i", 8) + whole[16:], "of model SIMPLE_RADIAL_FISHEYE"),
        ("cameras.bin", lambda whole: whole[:12] + struct.pack("<i", 5) + whole[16:], "within an entry"),
        ("images.bin", lambda whole: struct.pack("<Q", 1 << 60) + whole[8:], f"claims {1 << 60} entries"),
        ("images.bin", lambda whole: whole[:-3], "claims a list of 25"),
        ("images.bin", lambda whole: whole[:76], "claims 4 entries"),
        ("images.bin", lambda whole: whole[:12] + bytes(32) + whole[44:], "has the pose"),
        ("images.bin", lambda whole: whole.replace(b"Bild 1", b"Bild 9"), "'Bild 9.png' is not in"),
        ("images.bin", lambda whole: whole.replace(b"Bild 1.png", b"../../1.pn"), "is not in"),
        ("images.bin", lambda whole: whole[:68] + struct.pack("<i", 8) + whole[72:], "camera 8, which is not there"),
        ("images.bin", lambda _: b"", "within an entry"),
        ("points3D.bin", lambda whole: whole[:100], "claims 25 entries"),
        ("points3D.bin", lambda whole: whole[:16] + struct.pack("<d", math.nan) + whole[24:], "not finite"),
    ],
)
def test_broken_binary_models_are_refused(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes], says: str
) -> None:
    made_colmap(tmp_path, colmap_bytes)
    path = tmp_path / "sparse/0" / name
    write(path, change(path.read_bytes()))
    assert says in refusal("scenes", tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("cameras.txt", lambda text: text.replace("-0.0625", ""), "has parameters"),
        ("cameras.txt", lambda text: text.replace("60.0", "nan"), "has parameters"),
        ("cameras.txt", lambda text: text.replace("SIMPLE_RADIAL", "FOV"), "of model FOV"),
        ("cameras.txt", lambda text: text.replace("60.0", "sixty"), "line 2: could not convert"),
        ("images.txt", lambda text: text.replace(" 7 Bild", " Bild"), "line 2"),
        ("points3D.txt", lambda text: text + "1 2 3\n", "has 3 words, fewer than 8"),
        ("points3D.txt", lambda text: text + "1 2 3 4 5 6 700 0.5\n", "a colour beyond"),
    ],
)
def test_broken_models_of_text_are_refused(tmp_path: Path, name: str, change: Callable[[str], str], says: str) -> None:
    made_colmap(tmp_path, colmap_text)
    path = tmp_path / "sparse/0" / name
    write(path, change(path.read_text()))
    assert says in refusal("scenes", tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda whole: whole[:-8], "is no NumPy array"),
        (lambda whole: whole[:128] + struct.pack("<d", math.inf) + whole[136:], "finite numbers"),
        (lambda whole: whole.replace(b"(4, 17)", b"(9**9, 17)"), "is no NumPy array"),
    ],
)
def test_broken_llff_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], says: str) -> None:
    pictures(tmp_path / "images")
    path = llff(tmp_path / "poses_bounds.npy")
    write(path, change(path.read_bytes()))
    assert says in refusal("scenes", tmp_path)


def test_sizes_are_limited(tmp_path: Path) -> None:
    path = nerf(tmp_path / "transforms.json", pictures(tmp_path))
    assert "max_bytes=36864" in refusal("scenes", path, max_bytes="36863")
    assert imported("scenes", path, max_bytes="36864")


def test_a_real_scene() -> None:
    sample = imported("scenes", shared("unclear/scene3d"))["nerf_synthetic_lego_200"]
    assert sample["images"].shape == (48, 200, 200, 4)
    assert sample["intrinsics"][0, 0, 0] == pytest.approx(100 / math.tan(0.6911112070083618 / 2))
    centre, forward = sample["poses"][:, :3, 3], sample["poses"][:, :3, 2]
    assert np.linalg.norm(centre, axis=1) == pytest.approx(4.031, abs=0.001)
    assert np.allclose(forward, -centre / np.linalg.norm(centre, axis=1, keepdims=True), atol=1e-3)  # all look at it
    assert 0.1 < sample["masks"].mean() < 0.5
    assert np.array_equal(sample["masks"], sample["images"][..., 3] >= 128)
