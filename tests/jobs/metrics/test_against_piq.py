"""Metrics against piq's values in golden.json (see make_golden.py)."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import DISTORTIONS, PICTURES, distort, picture

from sensorium.jobs import image_metrics
from sensorium.jobs.image_metrics import brisque

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())["values"]

#: 256: no reduction. 300 x 450: its halves have odd sides, which libraries pad and we leave out. 512: VSI's pictures of
#: saliency are reduced to 256 by means over areas here, by sampling in piq.
TOLERANCE = {
    ("ms_ssim", "chelsea_300"): 5e-4,
    ("vsi", "chelsea_300"): 1e-4,
    ("vsi", "astronaut_512"): 5e-3,
}


@pytest.mark.parametrize("name", ["fsim", "gmsd", "haarpsi", "mdsi", "ms_ssim", "total_variation", "vsi"])
@pytest.mark.parametrize("of", PICTURES)
def test_agrees_with_piq(name: str, of: str) -> None:
    reference = picture(of)
    compute = image_metrics.get(name).compute
    for how in DISTORTIONS:
        expected = GOLDEN[f"{of} {how}"][name]
        value = compute(reference, distort(reference, how))
        assert value == pytest.approx(expected, abs=TOLERANCE.get((name, of), 5e-6)), how


@pytest.mark.parametrize("of", ["astronaut_256", "chelsea_300"])
def test_features_of_brisque_agree_with_piq(of: str) -> None:
    """At the first scale. In flat parts piq takes the rounding of its own arithmetic for samples left or right of zero, so
    that the picture in steps, which has such parts, differs a little.
    """
    reference = picture(of)
    for how in DISTORTIONS:
        features = brisque.metric.compute(reference, distort(reference, how))
        expected = GOLDEN[f"{of} {how}"]["brisque"]
        assert np.asarray(features)[:18] == pytest.approx(expected, abs=2e-2 if how == "steps" else 2e-5), how


def test_the_pictures_have_not_changed() -> None:
    """Else the golden values would be of others."""
    sums = {
        name: zlib.crc32(b"".join(distort(picture(name), how).tobytes() for how in DISTORTIONS)) for name in PICTURES
    }
    assert sums == {
        "astronaut_256": 782064552,
        "coffee_256": 2830690065,
        "chelsea_300": 3152449425,
        "astronaut_512": 2778061735,
    }
