"""Networks in ONNX files, for tasks whose model the user brings.

ONNX alone, no TorchScript: loading that runs code that lies in the file. For the same reason weights must be inside the
file, not in files beside it: then the hash of the one file says which model it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.optional import require

__all__ = ["Network", "open_network"]

_FLOAT = "tensor(float)"


@dataclass(frozen=True)
class Network:
    """A network that takes one batch of pictures.

    Attributes:
        path: of its file, for messages.
        digest: hash of the file.
        height, width: that its input must have, pixels; None where any will do.
        outputs: names of what it gives.
    """

    path: str
    digest: str
    height: int | None
    width: int | None
    outputs: tuple[str, ...]
    _session: Any
    _input: str

    def run(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for pictures [B, 3, H, W], RGB in [0, 1], float32.

        Raises:
            InvalidSample: the network fails on them.
        """
        try:
            values = self._session.run(None, {self._input: np.ascontiguousarray(pictures, np.float32)})
        except Exception as error:  # its errors have a class for each code, and no common one of their own
            raise InvalidSample(f"{self.path} fails on pictures of shape {list(pictures.shape)}: {error}") from error
        return dict(zip(self.outputs, (np.asarray(value) for value in values), strict=True))


def open_network(path: str, purpose: str) -> Network:
    """The network in an ONNX file: one input [B, 3, H, W] of RGB in [0, 1], float32; H and W fixed or free.

    Raises:
        InvalidSetting: there is no such file, it is no such network, or its weights lie in files beside it.
        MissingDependency: onnxruntime is not installed.
    """
    runtime = require("onnxruntime", purpose)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidSetting(
            f"{path!r} cannot be read: {error.strerror or error}. Name an ONNX file to {purpose}."
        ) from error
    options = runtime.SessionOptions()
    # the sweep runs one picture per core: threads of its own would only get in each other's way
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see above
        raise InvalidSetting(f"{path!r} is no ONNX file that onnxruntime can run: {error}") from error
    height, width = _input_size(session.get_inputs(), path)
    return Network(
        path,
        hashlib.blake2b(content, digest_size=16).hexdigest(),
        height,
        width,
        tuple(output.name for output in session.get_outputs()),
        session,
        session.get_inputs()[0].name,
    )


def _input_size(inputs: Sequence[Any], path: str) -> tuple[int | None, int | None]:
    shapes = [f"{one.name} {one.shape} {one.type}" for one in inputs]
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type != _FLOAT or (shape[1] not in (3, None) and not isinstance(shape[1], str)):
        raise InvalidSetting(
            f"{path!r} must have one input of float32 [B, 3, H, W]; it has {', '.join(shapes) or 'none'}. Export it so."
        )
    height, width = (side if isinstance(side, int) and side > 0 else None for side in shape[2:])
    return height, width
