"""An encoder of pictures that the platform fits itself: small, and the same wherever it is fitted with the same software.

It learns by instance discrimination (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", equation 1): two crops of one place of a photograph, changed in brightness, contrast, colour, size and
mirrored, shall be nearer to each other than to crops of other places. Its data are the photographs that scikit-image
brings. It has seen no person twice and is no recogniser of faces: it is there so that the task works at once.

Fitted at first use, in some seconds, and kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.platform.errors import CorruptData, MissingDependency
from sensorium.platform.optional import require

__all__ = ["SIDE", "Embedder", "open_encoder"]

#: side of the pictures that it takes, pixels; length of what it gives
SIDE, LENGTH = 64, 64
_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "retina.jpg",
                "hubble_deep_field.jpg", "ihc.png")  # fmt: skip
_SEED, _STEPS, _BATCH = 18, 120, 48
_RATE, _TEMPERATURE = 2e-3, 0.2
_VERSION = 1


@dataclass(frozen=True)
class Embedder:
    """Something that turns pictures into vectors.

    Attributes:
        definition: model and version.
        size: height and width that pictures must have, pixels; None for a side where any will do.
        embed: pictures [B, 3, H, W], RGB in [0, 1], float32, to vectors [B, D].
    """

    definition: str
    size: tuple[int | None, int | None]
    embed: Callable[[np.ndarray], np.ndarray]


def open_encoder() -> Embedder:
    """The encoder, fitted if it is not in the cache.

    Raises:
        MissingDependency: torch, safetensors or scikit-image is not installed.
        CorruptData: the file in the cache is damaged.
    """
    torch = require("torch", "fit the platform's own encoder")
    storing = require("safetensors.torch", "keep the platform's own encoder")
    path = _cache() / f"encoder-{_VERSION}-torch-{torch.__version__}.safetensors"
    with torch.random.fork_rng(devices=[]):  # who asks for an encoder does not ask for other random numbers of his own
        torch.manual_seed(_SEED)
        network = _network(torch)
        if not path.is_file():
            _fit(torch, network)
            _keep(path, storing.save(network.state_dict()))
    content = path.read_bytes()
    try:
        network.load_state_dict(storing.load(content))
    except Exception as error:  # whatever a damaged file makes of it
        raise CorruptData(f"{path} is damaged: {error}. Remove it; it is made anew.") from error
    network.eval()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()

    def embed(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = network(torch.from_numpy(pictures)).numpy()
        return found

    definition = f"encoder {_VERSION} fitted here on scikit-image's photographs, {digest}"
    return Embedder(definition, (SIDE, SIDE), embed)


def _cache() -> Path:
    """The user's folder for what can be made anew."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "sensorium"


def _keep(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it; who comes second replaces it by the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


def _network(torch: Any) -> Any:
    """Four convolutions of stride 2, the mean over the places, and a linear layer: [B, 3, 64, 64] to [B, 64]."""
    nn = torch.nn
    layers: list[Any] = []
    for before, after in ((3, 16), (16, 32), (32, 64), (64, 96)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(4, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, LENGTH))


def _fit(torch: Any, network: Any) -> None:
    """Fit in place; pairs come from a fixed seed."""
    photographs = _photographs()
    random = np.random.default_rng(_SEED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in several threads come in any order
    try:
        optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
        for _ in range(_STEPS):
            loss = _loss(torch, network, _pairs(random, photographs))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    finally:
        torch.set_num_threads(threads)


def _loss(torch: Any, network: Any, pairs: np.ndarray) -> Any:
    """Equation 1 of the paper above, over both orders of each pair; ``pairs`` [2B, 3, 64, 64], B beside B."""
    vectors = torch.nn.functional.normalize(network(torch.from_numpy(pairs)), dim=1)
    alike = vectors @ vectors.T / _TEMPERATURE  # [2B, 2B]
    count = len(pairs) // 2
    alike = alike.masked_fill(torch.eye(2 * count, dtype=torch.bool), float("-inf"))  # nobody is his own partner
    partner = torch.cat([torch.arange(count) + count, torch.arange(count)])
    return torch.nn.functional.cross_entropy(alike, partner)


def _photographs() -> list[np.ndarray]:
    skimage = require("skimage", "fit the platform's own encoder on its photographs")
    from PIL import Image

    folder = Path(skimage.__file__).parent / "data"
    found = [folder / name for name in _PHOTOGRAPHS if (folder / name).is_file()]
    if len(found) < 2:
        raise MissingDependency(
            f"{folder} has no photographs to fit an encoder on. Install scikit-image 0.26 or newer."
        )
    pictures = []
    for path in found:
        with Image.open(path) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    return pictures


def _pairs(random: np.random.Generator, photographs: list[np.ndarray]) -> np.ndarray:
    """Two views of each of ``_BATCH`` places, [2 * batch, 3, 64, 64] in [0, 1], float32."""
    cv2 = require("cv2", "scale pictures for the platform's own encoder")
    views: list[list[np.ndarray]] = [[], []]
    for _ in range(_BATCH):
        photograph = photographs[random.integers(len(photographs))]
        side = int(random.integers(SIDE, 1 + min(256, *photograph.shape[:2])))
        top, left = (int(random.integers(0, limit - side + 1)) for limit in photograph.shape[:2])
        for view in views:
            small = max(SIDE // 2, int(side * random.uniform(0.7, 1)))
            down, right = (int(shift) for shift in random.integers(0, side - small + 1, 2))
            cropped = photograph[top + down : top + down + small, left + right : left + right + small]
            scaled = cv2.resize(cropped, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            view.append(_changed(random, scaled))
    return np.ascontiguousarray(np.moveaxis(np.stack(views[0] + views[1]), 3, 1))


def _changed(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A picture [64, 64, 3] with other colours, contrast and brightness, perhaps mirrored."""
    if random.random() < 0.5:
        picture = picture[:, ::-1]
    gains = random.uniform(0.7, 1.3) * random.uniform(0.9, 1.1, 3)
    changed: np.ndarray = np.clip((picture - 0.5) * gains + 0.5 + random.uniform(-0.15, 0.15), 0, 1)
    return changed.astype(np.float32)
