"""Recipes for labelled images and an encoder, a run or ImageNet weights to begin from."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lookalike import datasets
from lookalike.datasets import Source
from lookalike.errors import DataError, UsageError
from lookalike.learn.recipe import (
    IMAGENET,
    EfficientNetLiteNetwork,
    HeadRecipe,
    Recipe,
    parse,
    parse_head,
    to_recipe_name,
)
from lookalike.learn.run_folder import CHECKPOINT, RECIPE, RunFolder

IMAGENET_NETWORKS: tuple[str, ...] = get_args(EfficientNetLiteNetwork.model_fields["backbone"].annotation)
"""Networks with weights of ImageNet, which can be named like encoders."""

_CLASSES, _ITEMS = 16, 4


def recipe_of_images(
    start: str, images: Source, to: Path, overrides: Sequence[str] = (), *, whole: bool = False
) -> Recipe | HeadRecipe:
    """Make the recipe that fits a head to an encoder, or trains a network, on labelled images.

    Args:
        start: the encoder; with ``whole`` as the base of `whole_recipe`.
        images: labelled.
        to: the run's folder, after which the new encoder is named.
        overrides: of values of the recipe, as ``"choose_by=images"``.
        whole: train the network, too.

    Raises:
        RecipeError: an override is invalid.
        DataError, UsageError: as `whole_recipe`.
    """
    name = to_recipe_name(to.resolve().name, "mine")
    if whole:
        return parse(whole_recipe(start, name, images), overrides)
    return parse_head({"name": name, "from": start, "data": {"sources": [images.model_dump(mode="json")]}}, overrides)


def whole_recipe(base: str, name: str, source: Source) -> dict[str, Any]:
    """Return the recipe, as plain values, that trains a network and its head on labelled images.

    Args:
        base: the folder of a run, whose network goes on, or the name of a network with weights of ImageNet.
        name: of the new encoder.
        source: the images.

    Raises:
        DataError: there are too few classes or images.
        UsageError: the base has no weights to train.
    """
    dataset = datasets.open_dataset(source)
    counts = np.bincount(dataset.labels[~dataset.sketch], minlength=len(dataset.classes))
    if len(counts) < 2 or counts.min() < 2:  # noqa: PLR2004 -- a pair of classes, and of images
        few = "" if len(counts) < 2 else f", and “{dataset.classes[int(counts.argmin())]}” has {counts.min()}"  # noqa: PLR2004
        raise DataError(f"A network is trained on two classes or more, each of two images or more{few}. Add images.")
    return {
        "name": name,
        "description": f"{base if base in IMAGENET_NETWORKS else Path(base).name}, trained on {len(dataset):,} images of"
        f" {len(counts):,} classes.",
        **_start(base),
        "losses": [
            {"kind": "supervised_contrastive", "temperature": 0.1},
            {"kind": "cross_entropy", "smoothing": 0.1},
        ],
        "sampler": {"classes": min(_CLASSES, len(counts)), "items": _ITEMS},
        "augment": {"flip": True, "crop": 0.3, "colour": 0.2},
        "optimiser": {"kind": "adamw", "learning_rate": 1e-4, "weight_decay": 0.01},
        "schedule": {"kind": "cosine", "warmup": 0.1},
        "train": {"epochs": 10, "statistics": "kept" if base in IMAGENET_NETWORKS else "batch"},
    } | {"data": _start(base).get("data", {}) | {"sources": [source.model_dump(mode="json")], "validation": 0.2}}


def _start(base: str) -> dict[str, Any]:
    """Return the keys of a recipe that say which network begins from which weights, and what images it takes."""
    if base in IMAGENET_NETWORKS:
        # The features stay as wide as the weights know them: a random projection of few numbers would lose more than training gains.
        return {
            "network": {"backbone": base, "weights": IMAGENET, "dimension": 256},
            "head": {"kind": "whitening"},
            "data": {"size": 160},
        }
    folder = Path(base).expanduser()
    folder = folder.parent if folder.name == "encoder" else folder
    if not (os.path.isfile(folder / CHECKPOINT) and os.path.isfile(folder / RECIPE)):  # noqa: PTH113 -- any name
        raise UsageError(
            f"“{base}” has no weights that can be trained: an encoder is an ONNX network, whose weights are fixed. Leave out --whole to fit"
            f" a head to it; or give the folder of a run of lookalike train, with its {CHECKPOINT}; or begin from weights of"
            f" ImageNet: --from {IMAGENET_NETWORKS[0]}."
        )
    before = RunFolder(folder).read_recipe()
    data = before.stages[-1].data
    return {
        "network": before.network.model_dump(mode="json"),
        "head": None if before.head is None else before.head.model_dump(mode="json"),
        "start": str(folder.absolute()),
        "data": {"size": data.size, "fit": data.fit, "mean": data.mean, "std": data.std},
    }
