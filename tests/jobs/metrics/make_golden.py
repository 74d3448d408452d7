"""Writes golden.json: values of piq on the pictures of pictures.py. Run with piq and PyTorch installed, not by the tests.

piq imports torchvision for networks that nothing here uses: where that package is missing, an empty one takes its place.
Metrics on luma are given our own luma, in one channel: the rule for luma is not what is compared.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from pictures import DISTORTIONS, PICTURES, distort, picture

from sensorium.jobs import colour


class _Named(type):
    """A class with an attribute, again such a class, for every name."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(name, (), {})


class _Anything(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Finds every module below torchvision, with whatever name is asked of it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        mine = name.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if mine else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = lambda name: getattr(_Named("module", (), {}), name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None: ...


def tensor(image: np.ndarray) -> torch.Tensor:
    """[H, W] or [H, W, 3] to [1, C, H, W] in [0, 255]."""
    planes = image[np.newaxis] if image.ndim == 2 else image.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).double()[np.newaxis]


def main() -> None:
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_Anything())
    import piq
    from piq.brisque import _natural_scene_statistics
    from piq.functional.colour_conversion import rgb2xyz, xyz2lab

    # piq takes the white of D50 for sRGB, whose own is D65
    sys.modules["piq.vsi"].rgb2lab = lambda image, data_range: xyz2lab(rgb2xyz(image / data_range), illuminant="D65")
    on_colour = {"fsim": piq.fsim, "haarpsi": piq.haarpsi, "mdsi": piq.mdsi, "vsi": piq.vsi}
    on_luma = {"gmsd": piq.gmsd, "ms_ssim": piq.multi_scale_ssim}
    values = {}
    for name in PICTURES:
        reference = picture(name)
        for how in DISTORTIONS:
            distorted = distort(reference, how)
            pair = (tensor(reference), tensor(distorted))
            lumas = (tensor(colour.luma(reference)), tensor(colour.luma(distorted)))
            row = {key: float(metric(*pair, data_range=255)) for key, metric in on_colour.items()}
            row |= {key: float(metric(*lumas, data_range=255)) for key, metric in on_luma.items()}
            row["total_variation"] = float(piq.total_variation(lumas[1], norm_type="l1")) / lumas[1].numel()
            row["brisque"] = _natural_scene_statistics(lumas[1])[0].tolist()
            values[f"{name} {how}"] = row
    version = importlib.metadata.version("piq")
    comment = f"piq {version}, PyTorch {torch.__version__}, float64, VSI with white D65; by make_golden.py"
    path = Path(__file__).with_name("golden.json")
    path.write_text(json.dumps({"comment": comment, "values": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
