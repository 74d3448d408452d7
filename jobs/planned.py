"""The systems that are still to come, so that ``sensorium systems`` and the README can say so.

A system leaves this list when its folder, with an entry point of the group ``sensorium.systems``, takes its place.
"""

from __future__ import annotations

from sensorium.platform.systems import System

__all__ = ["PLANNED"]


def _planned(paper: int, name: str, title: str, modality: str, needs: str, claim: str) -> System:
    return System(name=name, title=title, modality=modality, needs=needs, claim=claim, paper=paper)


PLANNED = (
    _planned(3, "sketch_segmentation", "Sketch2Seg", "image", "photographs with sketches and masks",
             "sketch-guided features segment unseen categories better than unguided ones"),
    _planned(5, "spherical_superpixels", "DSS", "panorama", "equirectangular panoramas with segment labels",
             "circular padding removes the seam; better than planar methods at the poles"),
    _planned(6, "salient_objects", "ExPert", "image", "images with saliency masks",
             "adapters reach full tuning with a fraction of the parameters; injection helps further"),
    _planned(7, "recall_distillation", "recall-based knowledge distillation", "image", "several data sets of images with masks",
             "forgets far less than fine-tuning at a fraction of retraining's time"),
    _planned(8, "gaussian_clustering", "Contrastive Gaussian Clustering", "scene", "posed views with 2-D masks",
             "consistent 3-D segments from inconsistent masks"),
    _planned(10, "fewshot_segmentation", "task-consistent incremental few-shot segmentation", "image",
             "images with masks of many classes", "higher harmonic mean than weight imprinting and fine-tuning"),
    _planned(14, "nir_synthesis", "BA-CycleGAN", "hyperspectral", "unpaired VIS and NIR cubes, sweetness classes",
             "SAM loss and bandwise attention each lower the spectral angle"),
    _planned(15, "voice_face", "contrastive learning + optimal transport", "audio", "voices and faces of the same people",
             "optimal transport improves on the contrastive loss alone"),
    _planned(16, "opera_speaker", "KunquDB ASV: DDAL + BCST", "audio", "utterances of speakers who speak and sing",
             "each of the two losses helps, and both together most across domains"),
    _planned(17, "video_chat", "Act-ChatGPT", "video", "clips with questions and answers",
             "the action branch lifts answers to action questions"),
)  # fmt: skip
