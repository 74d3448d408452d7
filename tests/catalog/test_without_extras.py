"""The catalog alone: a user without torch, Ray, the codecs and the front end can do everything that needs none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: for every process of the test, those that read files among them
_ABSENT = """
import sys

class Absent:
    names = {
        "torch", "ray", "gradio", "wandb", "av", "cv2", "simplejpeg", "skimage", "sklearn", "soundfile", "nibabel", "scipy",
        "rasterio", "h5py", "mne", "wfdb", "pydicom", "tifffile", "defusedxml", "edfio", "datasets",
    }
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""

_ALONE = """
import numpy as np
from PIL import Image
from sensorium.catalog import Catalog
from sensorium.platform.errors import MissingDependency

Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("files/a.png")
catalog = Catalog("lake")
assert catalog.ingest("files", "photos").added == 1
dataset = catalog["photos"]
dataset.append([{"id": "b", "image": np.ones((8, 8, 3), np.uint8)}])
selection = dataset.select("id = 'b'")
assert selection[0]["image"].max() == 1
assert selection.dask("image").compute().shape == (1, 8, 8, 3)
assert selection.xarray()["image"].dims == ("sample", "H", "W", "C")
assert dataset.verify().is_empty()
for needs, extra in ((selection.torch, "torch"), (selection.ray, "ray"), (lambda: dataset.write_ray(None), "ray")):
    try:
        needs()
    except MissingDependency as error:
        assert f"sensorium[{extra}]" in str(error), error
    else:
        raise SystemExit(f"nothing said that {extra} is missing")
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in ``folder`` where no extra is installed."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_ABSENT)
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_catalog_needs_no_extra(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    done = run(_ALONE, tmp_path)
    assert done.returncode == 0, done.stderr


def test_formats_that_need_an_extra_say_which(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
    script = (
        "from sensorium.platform.cli import main\n"
        f"main(['--lake', {str(tmp_path / 'lake')!r}, 'catalog', 'ingest', {str(tmp_path / 'a.wav')!r}, '-d', 'sounds'])"
    )
    done = run(script, tmp_path)
    assert done.returncode == 2
    assert "sensorium[formats]" in done.stderr
    assert "Traceback" not in done.stderr
