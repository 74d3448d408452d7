"""The state of a fit as safetensors files in the lake: no pickle, each file complete or not there.

A run's folder ``<lake>/checkpoints/<run>/`` holds the newest two checkpoints of the loop, the best weights so far, and the
weights at the end of each phase. It is removed when the model is saved.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import safetensors
import safetensors.torch
import torch

from sensorium.platform.errors import CorruptData
from sensorium.platform.storage import Storage

__all__ = ["FOLDER", "Checkpoints", "from_bytes", "module_tensors", "restore_modules", "restore_optimiser", "to_bytes"]

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
_KEPT = 2
_SUFFIX = ".safetensors"
_STATE = "state"

Tensors = dict[str, torch.Tensor]


def to_bytes(tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any] | None = None) -> bytes:
    """Tensors, and a state of JSON types in the header, as the content of a safetensors file."""
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    seen: dict[int, str] = {}
    for name, tensor in own.items():  # the format has no shared memory: a second view becomes a copy
        if tensor.numel() and seen.setdefault(tensor.data_ptr(), name) != name:
            own[name] = tensor.clone()
    metadata = {_STATE: json.dumps(state)} if state is not None else None
    content: bytes = safetensors.torch.save(own, metadata)
    return content


def from_bytes(content: bytes, what: str) -> tuple[Tensors, dict[str, Any]]:
    """What :func:`to_bytes` made.

    Raises:
        CorruptData: ``what`` is not such a file.
    """
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        return tensors, json.loads(metadata.get(_STATE, "{}"))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CorruptData(f"{what} is no readable safetensors file: {error}. Restore it from a copy.") from error


def module_tensors(modules: Mapping[str, torch.nn.Module]) -> Tensors:
    """Weights and buffers of all modules, as ``name/key``."""
    return {f"{name}/{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()}


def restore_modules(modules: Mapping[str, torch.nn.Module], tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Load what :func:`module_tensors` gave.

    Raises:
        CorruptData: names or shapes do not fit.
    """
    for name, module in modules.items():
        own = {key.partition("/")[2]: tensor for key, tensor in tensors.items() if key.partition("/")[0] == name}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise CorruptData(
                f"{what} does not fit the network {name!r} of this version of the system: {text:.300}. "
                "Use the version that fitted it, or fit again."
            ) from error


def optimiser_state(optimiser: torch.optim.Optimizer, prefix: str) -> tuple[Tensors, dict[str, Any]]:
    """An optimiser's tensors, and the rest as JSON types."""
    whole = optimiser.state_dict()
    tensors: Tensors = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, held in whole["state"].items():
        for key, value in held.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}/{index}/{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    return tensors, {"numbers": numbers, "groups": whole["param_groups"]}


def restore_optimiser(
    optimiser: torch.optim.Optimizer, prefix: str, tensors: Mapping[str, torch.Tensor], rest: Mapping[str, Any]
) -> None:
    """Load what :func:`optimiser_state` gave."""
    state: dict[int, dict[str, Any]] = {int(index): dict(held) for index, held in rest["numbers"].items()}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}/"):
            _, index, key = name.rsplit("/", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": rest["groups"]})


class Checkpoints:
    """The checkpoints of one run. Files are written by a thread, one after another, while the fit goes on."""

    def __init__(self, lake: Storage, run: str) -> None:
        self._storage, self._run = lake.below(FOLDER, run), run
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sensorium-checkpoint")
        self._pending: list[Future[None]] = []
        self._needed: dict[str, str] = {}  # checkpoints that are there -> weights that they need
        self._best = ""

    @property
    def storage(self) -> Storage:
        """The run's folder."""
        return self._storage

    def save(
        self, phase: int, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], needs: str = ""
    ) -> None:
        """Write a checkpoint of the loop, which needs the weights kept as ``needs``; then remove what none needs any more."""
        name = f"{phase:03}-{step:010}{_SUFFIX}"
        copies = {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}
        self._submit(name, copies, state)
        before = set(self._needed.values())
        self._needed[name] = needs
        for old in sorted(self._needed)[:-_KEPT]:
            del self._needed[old]
            self._pending.append(self._writer.submit(self._storage.remove, old))
        for label in before - {"", *self._needed.values()}:
            self._pending.append(self._writer.submit(self._storage.remove, label + _SUFFIX))

    def newest(self) -> tuple[Tensors, dict[str, Any]] | None:
        """The newest checkpoint of the loop; None where there is none."""
        self.wait()
        names = sorted(name for name in self._storage.files() if name[:3].isdecimal())
        if not names:
            return None
        found = from_bytes(self._storage.read(names[-1]), f"checkpoint {names[-1]} of run {self._run}")
        self._needed = dict.fromkeys(names, "") | {names[-1]: found[1].get("best") or ""}
        return found

    def keep(self, label: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write weights under a name of their own, such as ``phase-000``."""
        copies = {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}
        self._submit(label + _SUFFIX, copies, {})

    def keep_best(self, label: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the best weights so far; those before are removed, unless a checkpoint needs them."""
        self.keep(label, tensors)
        if self._best and self._best != label and self._best not in self._needed.values():
            self._pending.append(self._writer.submit(self._storage.remove, self._best + _SUFFIX))
        self._best = label

    def labels(self) -> list[str]:
        """Sorted names of the weights that were kept."""
        self.wait()
        return [name.removesuffix(_SUFFIX) for name in self._storage.files() if not name[:3].isdecimal()]

    def kept(self, label: str) -> Tensors:
        """The weights of that name."""
        self.wait()
        return from_bytes(self._storage.read(label + _SUFFIX), f"weights {label} of run {self._run}")[0]

    def remove(self) -> None:
        """Remove the run's folder."""
        self.wait()
        self._storage.remove()

    def wait(self) -> None:
        """Until all files are written.

        Raises:
            StorageError: one could not be.
        """
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def close(self) -> None:
        """Write what is left and end the thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def _submit(self, name: str, tensors: Tensors, state: Mapping[str, Any]) -> None:
        for future in [future for future in self._pending if future.done()]:
            self._pending.remove(future)
            future.result()  # a full disk is told now, not at the end
        self._pending.append(self._writer.submit(lambda: self._storage.write(to_bytes(tensors, dict(state)), name)))
