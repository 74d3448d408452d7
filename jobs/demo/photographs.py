"""Real photographs that ship inside scikit-image and scikit-learn, so that the main job downloads nothing."""

from __future__ import annotations

import csv
import shutil
from importlib.util import find_spec
from pathlib import Path

from sensorium.platform.errors import MissingDependency

__all__ = ["LICENCE", "PHOTOGRAPHS", "collect"]

#: file -> (package, folder inside it, what it shows)
PHOTOGRAPHS = {
    "astronaut.png": ("skimage", "data", "portrait of an astronaut"),
    "brick.png": ("skimage", "data", "brick wall, grey"),
    "camera.png": ("skimage", "data", "man with a camera, grey"),
    "cell.png": ("skimage", "data", "cell under a quantitative phase microscope, grey"),
    "chelsea.png": ("skimage", "data", "cat"),
    "clock_motion.png": ("skimage", "data", "clock blurred by motion, grey"),
    "coffee.png": ("skimage", "data", "cup of coffee"),
    "coins.png": ("skimage", "data", "coins, grey"),
    "grass.png": ("skimage", "data", "grass, grey"),
    "gravel.png": ("skimage", "data", "gravel, grey"),
    "hubble_deep_field.jpg": ("skimage", "data", "deep sky"),
    "ihc.png": ("skimage", "data", "stained tissue"),
    "moon.png": ("skimage", "data", "surface of the moon, grey"),
    "motorcycle_left.png": ("skimage", "data", "motorcycle, left of a stereo pair"),
    "motorcycle_right.png": ("skimage", "data", "motorcycle, right of a stereo pair"),
    "page.png": ("skimage", "data", "printed page, grey"),
    "retina.jpg": ("skimage", "data", "retina"),
    "rocket.jpg": ("skimage", "data", "rocket on its pad"),
    "text.png": ("skimage", "data", "handwriting, grey"),
    "china.jpg": ("sklearn", "datasets/images", "temple"),
    "flower.jpg": ("sklearn", "datasets/images", "flower"),
}
LICENCE = "as stated by scikit-image and scikit-learn, in whose packages the files ship"


def collect(folder: Path) -> Path:
    """Copy the photographs into ``folder``, with a table of where each is from; returns the folder.

    Raises:
        MissingDependency: a package, or a file that it used to ship, is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, (package, place, subject) in PHOTOGRAPHS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingDependency(
                f"{package} is needed for its photographs, and is not installed. Install it with: pip install 'sensorium[demo]'"
            )
        path = Path(spec.origin).parent / place / name
        if not path.is_file():
            raise MissingDependency(
                f"{path} is not there: the installed {package} does not ship it. Install the pinned versions."
            )
        shutil.copyfile(path, folder / name)
        rows.append({"file": name, "package": package, "subject": subject})
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder
