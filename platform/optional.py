"""Everything optional is imported here, with a hint how to install it."""

from __future__ import annotations

import importlib
from typing import Any

from sensorium.platform.errors import MissingDependency

__all__ = ["require"]

#: import name -> the extra of this project that installs it
_EXTRA = {
    "av": "codecs",
    "cv2": "codecs",
    "imageio_ffmpeg": "codecs",
    "pillow_jxl": "codecs",
    "rapidfuzz": "codecs",
    "tesserocr": "ocr",
    "defusedxml.ElementTree": "formats",
    "rasterio": "formats",
    "h5py": "formats",
    "pylibjpeg": "formats",
    "edfio": "formats",
    "gradio": "serve",
    "plotly": "serve",
    "mne": "formats",
    "nibabel": "formats",
    "pydicom": "formats",
    "tifffile": "formats",
    "numba": "trees",
    "ray.data": "ray",
    "ray": "ray",
    "simplejpeg": "codecs",
    "skimage": "demo",
    "safetensors": "torch",
    "sklearn": "fit",
    "sklearn.metrics": "fit",
    "scipy": "fit",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "ray.train": "fit",
    "ray.tune": "fit",
    "soundfile": "formats",
    "torch": "torch",
    "transformers": "encoders",
    "wandb": "tracking",
    "wfdb": "formats",
}


def require(module: str, purpose: str) -> Any:
    """Import ``module``, or say which extra brings it.

    ``purpose`` completes the sentence "... is needed to <purpose>".

    Raises:
        MissingDependency: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there, something below it is not: a different fault with its own message
        extra = _EXTRA.get(module)
        install = f"pip install 'sensorium[{extra}]'" if extra else f"pip install {module}"
        raise MissingDependency(
            f"{module} is needed to {purpose}, and is not installed. Install it with: {install}"
        ) from error
