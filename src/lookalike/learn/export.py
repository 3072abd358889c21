"""From a trained network to an encoder artefact, checked against the network."""

import logging
import platform
import shutil
import warnings
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lookalike.datasets import LabelledImages
from lookalike.encoders import Card, Encoder
from lookalike.encoders.card import Input, Provenance
from lookalike.errors import EncoderError
from lookalike.learn.networks import Siamese
from lookalike.learn.recipe import Recipe
from lookalike.metric import Metric
from lookalike.query import Branch

# How far an embedding may move between torch and ONNX Runtime, weights stored as float16, as a share of its length.
_TOLERANCE = 1e-2

# Smaller tensors stay float32: they weigh nothing, and shapes and scales hide among them.
_SMALL = 256


def write(
    recipe: Recipe,
    network: Siamese,
    folder: Path,
    *,
    samples: LabelledImages,
    pictures: int,
    minutes: float,
    figures: dict[str, float],
) -> Path:
    """Write the artefact, then open it and compare its embeddings with the network's own.

    Args:
        recipe: the run's recipe.
        network: what was trained.
        folder: where to; replaced if it is there.
        samples: pictures to compare on, photos and sketches.
        pictures: how many were trained on, for the card.
        minutes: the training took, for the card.
        figures: measured on validation, for the card.

    Returns:
        The folder.

    Raises:
        EncoderError: ONNX and torch disagree.
    """
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    card = Card(
        name=recipe.name,
        description=recipe.description,
        licence=recipe.licence,
        dimension=recipe.network.dimension,
        output="float",
        metric=Metric.EUCLIDEAN,
        input=Input(size=recipe.data.size, fit=recipe.data.fit, mean=recipe.data.mean, std=recipe.data.std),
        branches=recipe.branches,
        provenance=Provenance(
            recipe=_without_paths(recipe.model_dump(mode="json")),
            seed=recipe.seed,
            minutes=round(minutes, 1),
            machine=f"{torch.get_num_threads()} threads, {platform.machine()}",
            versions={p: version(p) for p in ("lookalike", "torch", "numpy", "onnx", "pytorch-metric-learning")},
            images=pictures,
            figures={k: round(v, 5) for k, v in figures.items()},
        ),
    )
    (new / "encoder.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (new / "README.md").write_text(_model_card(card), encoding="utf-8")
    network = network.float().eval().cpu()
    models = {name: _to_onnx(network.branch(name), recipe.data.size) for name in recipe.branches}
    for name, model in models.items():
        onnx.save(_halved(model), new / f"{name}.onnx")
    for name, model in models.items():
        if _moved(network, Encoder.open(new), name, samples) > _TOLERANCE:
            # Deep networks that have hardly begun to learn make another embedding of the last bits of their weights.
            onnx.save(model, new / f"{name}.onnx")
        moved = _moved(network, Encoder.open(new), name, samples)
        if moved > _TOLERANCE:
            raise EncoderError(f"ONNX and torch disagree on {name} embeddings by {moved:.4f} (at most {_TOLERANCE}).")
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)
    return folder


def _without_paths(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe for the card: encoders travel, and where its maker keeps data is nobody's business."""
    for source in tree["data"]["sources"]:
        for key in ("path", "sketches"):
            if isinstance(source.get(key), str):
                source[key] = "/".join(Path(source[key]).parts[-2:])
    weights = tree["network"].get("weights")
    if weights and not weights.startswith("hf://"):
        tree["network"]["weights"] = Path(weights).name
    return tree


def _to_onnx(branch: nn.Module, size: int) -> onnx.ModelProto:
    example = torch.zeros(2, 3, size, size)
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    with warnings.catch_warnings():
        # The exporter warns and logs of its own insides.
        warnings.simplefilter("ignore")
        chatter.setLevel(logging.ERROR)
        program = torch.onnx.export(
            branch,
            (example,),
            input_names=["pictures"],
            output_names=["embeddings"],
            dynamic_shapes={"x": {0: torch.export.Dim("n")}},
            dynamo=True,
            verbose=False,
        )
    chatter.setLevel(level)
    if program is None:
        raise EncoderError("torch made no ONNX program of the network.")
    return program.model_proto


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with large weights stored as float16, a cast behind each: half the file; the arithmetic stays float32."""
    model = deepcopy(model)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size <= _SMALL:
            kept.append(tensor)
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        # A channel that is always the same has hardly a variance to be divided by: its weights can pass float16's end.
        if not np.isfinite(half).all():
            kept.append(tensor)
            continue
        stored = f"{tensor.name}.half"
        kept.append(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


@torch.inference_mode()
def _moved(network: Siamese, encoder: Encoder, branch: Branch, samples: LabelledImages) -> float:
    """How far the artefact's embeddings of some samples are from the network's, as a share of their length."""
    size = encoder.card.input
    rows = np.flatnonzero(samples.sketch == (branch == "sketch"))[:64]
    pictures = samples.images[rows]
    x = (torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - torch.tensor(size.mean).view(3, 1, 1)) / torch.tensor(
        size.std
    ).view(3, 1, 1)
    theirs = network.branch(branch)(x).numpy()
    length = float(np.linalg.norm(theirs, axis=1).mean())
    return float(np.linalg.norm(encoder.embed(pictures, branch) - theirs, axis=1).max()) / length


def _model_card(card: Card) -> str:
    about = card.provenance
    assert about is not None  # noqa: S101 -- `write` has just put it there
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in about.figures.items())
    return f"""# {card.name}

{card.description}

Pictures of {card.input.size} × {card.input.size} pixels ({card.input.fit}) become {card.dimension} numbers; nearness is \
{card.metric} distance. Branches: {", ".join(card.branches)}. Licence of the weights: {card.licence}.

Trained by lookalike {about.versions["lookalike"]} on {about.images:,} pictures in {about.minutes:.0f} minutes \
({about.machine}), seed {about.seed}. The recipe is in `encoder.json`.

| on the validation split | |
|---|---|
{figures}
"""
