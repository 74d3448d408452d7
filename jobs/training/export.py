"""Models as ONNX files that other software runs, each checked to give the same output before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sensorium.catalog.models import Model
from sensorium.jobs.training.method import Export, load_model
from sensorium.platform.errors import UserError
from sensorium.platform.optional import require

__all__ = ["Exported", "export_onnx"]

#: greatest difference between our output and the exported network's, relative to the largest output
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        path: the file.
        inputs, outputs: names.
        difference: the greatest difference to our own output on a random input, relative to the largest output.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float


def export_onnx(model: Model, path: Path) -> Exported:
    """Write a model's network as an ONNX file; preprocessing is not part of it, and is written beside it as metadata.

    Raises:
        UserError: the system's network cannot leave, or the exported one computes something else.
        MissingDependency: the packages of the extra ``export`` are not installed.
    """
    require("onnx", "export a model")
    require("onnxscript", "export a model")
    runtime = require("onnxruntime", "check an exported model")
    method, fitted = load_model(model, "cpu")
    if method.export is None:
        raise UserError(
            f"model {model.reference}: the network of system {model.system!r} cannot be exported (its input has no fixed "
            "number of dimensions). Use it through predict."
        )
    wanted = method.export(fitted)
    content = _exported(wanted)
    difference = _difference(runtime, content, wanted)
    if not difference <= _TOLERANCE:
        raise UserError(
            f"model {model.reference}: the exported network differs from ours by {difference:.2g} of the largest output; "
            f"no more than {_TOLERANCE:g} is allowed. Nothing was written: report it."
        )
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error}. Give another place with --output.") from error
    return Exported(path, tuple(wanted.inputs), wanted.outputs, difference)


def _exported(wanted: Export) -> bytes:
    size = torch.export.Dim("batch", min=1)
    shapes = tuple({0: size} if name in wanted.batched else None for name in wanted.inputs)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            wanted.module.eval(),
            tuple(wanted.inputs.values()),
            input_names=list(wanted.inputs),
            output_names=list(wanted.outputs),
            dynamic_shapes=shapes if any(shapes) else None,
            dynamo=True,
            verbose=False,
        )
    content: bytes = program.model_proto.SerializeToString()
    return content


def _difference(runtime: Any, content: bytes, wanted: Export) -> float:
    """The greatest difference between the two on a random input of another batch size, relative to the largest output."""
    random = torch.Generator().manual_seed(0)
    inputs = {}
    for name, example in wanted.inputs.items():
        shape = (example.shape[0] + 2, *example.shape[1:]) if name in wanted.batched else example.shape
        inputs[name] = (
            torch.randn(shape, generator=random).to(example.dtype) if example.is_floating_point() else example
        )
    with torch.no_grad():
        ours = wanted.module(*inputs.values())
    expected = [ours] if isinstance(ours, torch.Tensor) else list(ours)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    differences = []
    for one, other in zip(expected, found, strict=True):
        scale = max(1e-6, float(one.abs().max()))
        differences.append(float(np.abs(one.numpy() - other).max()) / scale)
    return max(differences)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its own progress and deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
