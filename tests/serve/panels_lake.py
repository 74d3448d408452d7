"""A lake for the panels: pictures for the small classifier, and water readings with a model that was fitted on them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.jobs.training import configuration
from sensorium.jobs.training.fit import FitRequest, fit
from sensorium.jobs.water_pollutants.method import method as water
from sensorium.platform.settings import Settings
from tests.serve import small_cnn

__all__ = ["PICTURES", "fill", "fit_water", "png"]

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def fill(folder: Path) -> Catalog:
    """Pictures, some of the wrong size, and two versions of the small model, the older in production."""
    catalog = Catalog(folder)
    rows = [{"id": f"picture{number}", "image": image} for number, image in enumerate(PICTURES)]
    photos = catalog.create("photos", modality="image")
    photos.append([{**row, "label": "cat & dog"} for row in rows], evolve=True)
    catalog.create("tall", modality="image").append([{"id": "tower", "image": np.zeros((80, 64, 3), np.uint8)}])
    for seed in range(2):
        small_cnn.save(catalog, seed=seed)
    catalog.promote("small@1", "production")
    return catalog


def fit_water(catalog: Catalog) -> None:
    """A model ``water``, fitted for an epoch."""
    config = configuration.overridden(water.config(), dict(water.small))
    samples, attributes = water.example(config, 0)
    catalog.create("liquids", modality="series", attributes=attributes).append(samples)
    fit(catalog, FitRequest("water_pollutants", "liquids", config, name="water"), Settings())


def png(pixels: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()
