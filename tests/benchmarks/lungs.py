"""Speed and memory of lung_segmentation: ``python -m tests.benchmarks lungs``.

A simulated chest of 512 x 512 x 200 voxels through checks, LCG and MGRF, and again with an epoch of the network, in a process of
its own. The limit it is held against is the same number of passes over 26 neighbours (pairs, map, likelihoods) by scipy's box
sums, over the whole volume.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sensorium.platform.tables import print_rows

_RUN = """
import json, resource, sys, time
import numpy as np
from scipy import ndimage
from sensorium.jobs.lung_segmentation.config import LungConfig
from sensorium.jobs.lung_segmentation.phantom import phantom
from sensorium.jobs.lung_segmentation.preparation import prepared
from sensorium.jobs.lung_segmentation.segmentation import segment

small = phantom(0, (50, 128, 128), lesions=3)
hu = small.hu.repeat(4, 0).repeat(4, 1).repeat(4, 2)
rng = np.random.default_rng(0)
for plane in hu:
    plane += np.where(plane > -2000, rng.normal(0, 15, plane.shape), 0).astype(np.int16)
sample = {"id": "large", "volume": hu, "spacing": [one / 4 for one in small.spacing]}
segment(prepared({"id": "small", "volume": small.hu, "spacing": small.spacing}), LungConfig())  # compiles
def measured(config):
    begun, cpu = time.perf_counter(), time.process_time()
    found = segment(prepared(sample), config)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return found, [wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]
found, without = measured(LungConfig())
lung = (found.labels == 2).astype(np.int8)
begun = time.process_time()
for _ in range(5):
    ndimage.uniform_filter(lung, 3, output=np.float32)
bound = time.process_time() - begun
_, whole = measured(LungConfig(stage="full", epochs=1))
print(json.dumps({"without": without, "whole": whole, "bound": bound, "ml": found.right_ml + found.left_ml}))
"""


def lungs(folder: Path) -> None:
    """One volume, as large as a hospital's."""
    done = subprocess.run([sys.executable, "-c", _RUN], check=True, capture_output=True, text=True, cwd=folder)
    told = json.loads(done.stdout.splitlines()[-1])
    columns = [
        "512 x 512 x 200",
        "wall, s",
        "CPU, s",
        "peak, GB",
        "five passes of scipy, CPU s",
        "times that",
        "lungs, ml",
    ]
    names = {"LCG + MGRF": "without", "the same and one epoch of the network": "whole"}
    rows = [[name, *told[key], told["bound"], told[key][1] / told["bound"], told["ml"]] for name, key in names.items()]
    print_rows(columns, [[name, *(f"{value:.1f}" for value in values)] for name, *values in rows])
