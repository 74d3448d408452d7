"""Lungs in CT volumes of the chest, without labels: linear combinations of Gaussians, a Markov field, a transformer."""

from __future__ import annotations

from sensorium.platform.systems import System

__all__ = ["system"]

system = System(
    name="lung_segmentation",
    title="LCG + MGRF + Swin-Unet, unsupervised",
    modality="volume",
    needs="chest CT in HU with spacing",
    claim="combined model beats MGRF and LCG alone, and ICM on lesions near the chest",
    paper=4,
    operations={
        "predict": "sensorium.jobs.lung_segmentation.operator:operator",
        "reproduce": "sensorium.jobs.lung_segmentation.reproduction:reproduce",
    },
    explanation=(
        "In goes a CT volume of a chest. Its histogram, and those of the volume after minimum filters of 3 and 5 voxels, are "
        "taken apart into Gaussians, each of which belongs to the lungs or to the chest. That gives every voxel a probability of "
        "being lung; a random field then lets the 26 neighbours of each have their say, and, if asked for, a small transformer "
        "that is trained on this one volume proposes regions, which are taken where the likelihood of the whole rises. Airways "
        "and table are left out. Out come both lungs and their volumes in ml. After paper 4; no labels are needed."
    ),
)
