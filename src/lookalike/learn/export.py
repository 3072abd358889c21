"""Export a trained network as an encoder artefact, checked against the network."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from lookalike import atomic
from lookalike.datasets import LabelledImages
from lookalike.embedding import Embedder
from lookalike.encoders import Card, Encoder
from lookalike.encoders.card import Input, Provenance
from lookalike.errors import EncoderError
from lookalike.evaluation.embedded import embed_images
from lookalike.learn import agreement, quantise, shaded_branch, validating
from lookalike.learn.agreement import save_network
from lookalike.learn.data import StageData
from lookalike.learn.heads import fitting, onnx_graph
from lookalike.learn.networks import Siamese, branches_of, weights
from lookalike.learn.onnx_export import to_onnx
from lookalike.learn.photo_branch import PhotoBranch
from lookalike.learn.pixels import normalise, to_images, to_tensor
from lookalike.learn.recipe import Precision, Recipe
from lookalike.metric import Metric
from lookalike.query import Branch
from lookalike.shapes import Float, Float32, UInt8

# Smaller tensors stay float32: some are shapes and scales, and the first layers change embeddings most. In EfficientNet-Lite0
# they are 1 % of the file, and float16 weights then move an embedding by 0.3 % of its length, not by 0.9 %.
_SMALL = 4_096

# Training images that determine the scales of int8 activations.
_CALIBRATED = 128

# Networks that int8 suits keep 0.95 to 0.99.
_MIN_COSINE = 0.9


@dataclass(frozen=True)
class Training:
    """Facts about the training, for the card.

    Attributes:
        images: trained on.
        minutes: of training.
        figures: measured on the validation split.
        precision: that the network was trained in.
    """

    images: int
    minutes: float
    figures: dict[str, float]
    precision: Precision | None = None


def write(
    recipe: Recipe,
    network: Siamese,
    folder: Path,
    data: StageData,
    training: Training,
    photos: PhotoBranch | None = None,
) -> Path:
    """Write the artefact, and check that its embeddings are those of the network.

    A head in closed form is fitted here, to the features of the network as it is exported. A fixed photo branch is copied, and
    the artefact has its input and its calibrations; with ``shaded``, drawings also pass through its network.

    Args:
        recipe: the run's recipe; the artefact has the input size and normalisation of its last stage.
        network: the trained network.
        folder: the artefact's folder; an existing one is replaced.
        data: the images of the last stage: those of training for int8 and for the head, the held-out ones to compare on.
        training: facts for the card.
        photos: the fixed photo branch of the run, if it has one.

    Returns:
        The folder.

    Raises:
        EncoderError: ONNX and torch disagree.
        DataError: the head cannot be fitted.
    """
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    card = _card(recipe, network, training, photos)
    network = network.float().eval().cpu()
    held_out = photos.held_out if photos else data.validation
    trained = branches_of(network.state_dict())
    models = {name: to_onnx(network.branch(name), card.input.size) for name in trained}
    if photos:
        shutil.copyfile(photos.encoder.folder / "photo.onnx", new / "photo.onnx")
    if recipe.int8:
        models = {name: quantise.static(model, _calibration_images(data, card, name)) for name, model in models.items()}
    expected = {name: _embed_by_torch(network, card.input, name, _of_branch(held_out, name)) for name in models}
    if photos and recipe.shaded:
        drawings = to_images(_training_images(data, card, "sketch", shaded_branch.CENTRED))
        with shaded_branch.make(photos.encoder, recipe.shaded, drawings) as shaded:
            models["sketch"] = shaded.join_network(models["sketch"])
            expected["sketch"] = shaded.join(expected["sketch"], _of_branch(held_out, "sketch"))
    _write(new, card, models)
    head = None
    if recipe.head:
        head = fitting.fit_of_run(recipe, Encoder.open(new), data.training)
        card = card.model_copy(update={"dimension": recipe.network.dimension})
        models = {name: onnx_graph.append(model, head) for name, model in models.items()}
        _write(new, card, models)
        expected = {name: head.apply(features) for name, features in expected.items()}
    if head or recipe.int8 or recipe.shaded:
        # The figures of the epochs are those of the features in float32.
        _write_card(new, _with_figures(card, held_out, Encoder.open(new)))
    for name, model in models.items():
        images = _of_branch(held_out, name)
        if recipe.int8:
            _check_int8(float(agreement.cosines(Encoder.open(new).embed(images, name), expected[name]).mean()), name)
        else:
            agreement.check_float(new, name, model, images, expected[name], "Train longer, or try another network.")
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)
    atomic.sync(folder.parent)
    return folder


def _write(folder: Path, card: Card, models: Mapping[Branch, onnx.ModelProto]) -> None:
    _write_card(folder, card)
    for name, model in models.items():
        save_network(with_float16_weights(model), folder / f"{name}.onnx")


def _write_card(folder: Path, card: Card) -> None:
    atomic.write_text(folder / "encoder.json", card.model_dump_json(indent=2) + "\n")
    atomic.write_text(folder / "README.md", _model_card(card))


def _check_int8(cosine: float, branch: Branch) -> None:
    if not cosine >= _MIN_COSINE:
        raise EncoderError(
            f"In int8 the {branch} embeddings have a cosine of only {cosine:.2f} with those of float32 (at least {_MIN_COSINE}). "
            "Leave out int8, or train longer."
        )


def _calibration_images(data: StageData, card: Card, branch: Branch) -> Float32[np.ndarray, "n 3 s s"]:
    """Choose training images of a branch, and normalise them."""
    return normalise(_training_images(data, card, branch, _CALIBRATED), card.input).numpy()


def _training_images(data: StageData, card: Card, branch: Branch, count: int) -> Float[Tensor, "n 3 s s"]:
    """Choose training images of a branch, evenly, in 0…1 and in the size of the artefact's input.

    Beside a fixed photo branch, that may be larger than the images that the sketch branch is trained on. Pseudo-sketches are
    chosen only if the sources have no sketches, since the network will see sketches by people.
    """
    chosen = data.training.sketch == (branch == "sketch")
    if (chosen & ~data.traced).any():
        chosen &= ~data.traced
    rows = np.flatnonzero(chosen)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int))]
    return functional.interpolate(to_tensor(data.training.images[rows]), card.input.size, mode="bilinear")


def _with_figures(card: Card, samples: LabelledImages, encoder: Encoder) -> Card:
    """Return a card with the figures of an encoder on the held-out images."""
    assert card.provenance is not None  # noqa: S101 -- `_card` sets it
    embeddings = embed_images(Embedder.of(encoder), samples).embeddings
    figures = {k: round(v, 5) for k, v in validating.figures(samples, embeddings, card.provenance.seed).items()}
    return card.model_copy(update={"provenance": card.provenance.model_copy(update={"figures": figures})})


def _card(recipe: Recipe, network: Siamese, training: Training, photos: PhotoBranch | None) -> Card:
    data = recipe.stages[-1].data
    given = photos.encoder.card.input if photos else Input(size=data.size, fit=data.fit, mean=data.mean, std=data.std)
    return Card(
        name=recipe.name,
        description=recipe.description,
        scope=recipe.scope,
        licence=recipe.licence,
        dimension=network.dimension,
        output="float",
        metric=Metric.EUCLIDEAN,
        input=given,
        branches=("photo", "sketch") if photos else branches_of(network.state_dict()),
        calibrations=photos.encoder.card.calibrations if photos else (),
        provenance=Provenance(
            recipe=_as_trained(recipe, training.precision),
            seed=recipe.seed,
            minutes=round(training.minutes, 1),
            machine=f"{torch.get_num_threads()} threads, {platform.machine()}",
            versions={p: version(p) for p in ("lookalike", "torch", "numpy", "onnx", "pytorch-metric-learning")},
            images=training.images,
            figures={k: round(v, 5) for k, v in training.figures.items()},
            weights=weights.origin(recipe.network),
        ),
    )


def _as_trained(recipe: Recipe, precision: Precision | None) -> dict[str, Any]:
    """Return the recipe for the card: in the precision that was used, and without the folders of this machine.

    People share encoders, and reproduce them.
    """
    tree = recipe.to_tree()
    for stage in tree.get("stages", [tree]):
        if precision is not None and stage["train"]["precision"] == "auto":
            stage["train"]["precision"] = precision
        shorten_paths(stage["data"]["sources"])
    if tree["photos"]:
        tree["photos"] = _last_parts(tree["photos"])
    if tree["start"]:
        tree["start"] = _last_parts(tree["start"])
    public = tree["network"].get("weights")
    if public and not public.startswith("hf://"):
        tree["network"]["weights"] = Path(public).name
    return tree


def shorten_paths(sources: Sequence[dict[str, Any]]) -> None:
    """Cut the paths of a recipe's sources to two parts: people share encoders, and whole paths are of this machine."""
    for source in sources:
        for key in ("path", "sketches", "folder"):
            if isinstance(source.get(key), str):
                source[key] = _last_parts(source[key])


def _last_parts(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def with_float16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large weights as float16 with a cast after each: half the file size; the arithmetic stays float32."""
    model = deepcopy(model)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size <= _SMALL:
            kept.append(tensor)
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        # A nearly constant channel has a tiny variance to divide by, so its weights can exceed the range of float16.
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


def _of_branch(samples: LabelledImages, branch: Branch) -> UInt8[np.ndarray, "n s s 3"]:
    """Choose images of a branch to compare embeddings of."""
    return samples.images[np.flatnonzero(samples.sketch == (branch == "sketch"))[: agreement.COMPARED]]


@torch.inference_mode()
def _embed_by_torch(
    network: Siamese, spec: Input, branch: Branch, images: UInt8[np.ndarray, "n s s 3"]
) -> Float32[np.ndarray, "n d"]:
    embeddings: Float32[np.ndarray, "n d"] = network.branch(branch)(normalise(to_tensor(images), spec)).numpy()
    return embeddings


def _model_card(card: Card) -> str:
    about = card.provenance
    assert about is not None  # noqa: S101 -- `write` sets it
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in about.figures.items())
    start = f"Training began from the weights {about.weights}. " if about.weights else ""
    about_images = "\n\n".join(filter(None, (card.description, card.scope)))
    return f"""# {card.name}

{about_images}

An image of {card.input.size} × {card.input.size} pixels ({card.input.fit}) becomes {card.dimension} numbers, compared by \
{card.metric} distance. Branches: {", ".join(card.branches)}. Licence of the weights: {card.licence}.

Trained by lookalike {about.versions["lookalike"]} on {about.images:,} images in {about.minutes:.0f} minutes \
({about.machine}), seed {about.seed}. {start}The recipe is in `encoder.json`.

| on the validation split | |
|---|---|
{figures}
"""
