"""Conversion of a state dict to an encoder artefact, checked against its network, and perhaps in int8."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from pydantic import ValidationError

from lookalike import atomic, datasets, images, sample
from lookalike.encoders import Card, Encoder
from lookalike.encoders.card import Input
from lookalike.errors import (
    AlreadyExistsError,
    DataError,
    EncoderError,
    StorageError,
    UsageError,
    plain_reason,
    reason_of,
)
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.learn import agreement, quantise, recipe, state_dict
from lookalike.learn.agreement import save_network
from lookalike.learn.export import with_float16_weights
from lookalike.learn.networks import BranchNetwork
from lookalike.learn.onnx_export import to_onnx
from lookalike.learn.pixels import normalise, to_tensor
from lookalike.learn.recipe.network import IMAGENET, imagenet_input
from lookalike.learn.state_dict import StateDict
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress
from lookalike.query import Branch
from lookalike.shapes import Float32, Int64, UInt8

Int8 = Literal["dynamic", "static"]
"""How activations become int8: scaled as they are computed, or by scales that images determined."""

# Images of a batch to time.
_TIMED = 16

# Images that determine the scales of activations, at most and at least, and those that measure what int8 changes.
_CALIBRATED = 128
_MIN_CALIBRATED = 8
_MEASURED = 2_000

# The preprocessing of torchvision for its ImageNet weights.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESIZED = {"convnext_tiny": 236, "convnext_small": 230, "convnext_base": 232}


@dataclass(frozen=True)
class ConvertOptions:
    """How a state dict becomes an encoder.

    Attributes:
        network: settings of the network, as in a recipe: ``backbone``, ``dimension``, …; those of a run are its recipe's.
        input: settings of the input, as in ``encoder.json``: ``size``, ``fit``, ``mean``, ``std``, …; by default those of the
            run, or of the network's ImageNet weights.
        int8: None stores the weights as float16.
        images: images to check on, and for static int8 to calibrate with; by default images of the toy shop.
        labelled: the images have labels (see `lookalike.datasets`), so that retrieval is measured too.
    """

    network: Mapping[str, Any]
    input: Mapping[str, Any]
    int8: Int8 | None = None
    images: Path | None = None
    labelled: bool = False

    def __post_init__(self) -> None:
        """Check that options fit together."""
        if self.int8 == "static" and self.images is None:
            raise UsageError(
                "Static int8 needs images to calibrate with: give --images DIR, with about 100 like yours."
            )
        if self.labelled and self.images is None:
            raise UsageError("--labels needs labelled images: give --images PATH.")


@dataclass(frozen=True)
class Measured:
    """Size, speed and scores of an encoder.

    Attributes:
        bytes: of its networks.
        ms: milliseconds an image, on one core.
        top_1: share of images whose nearest other image has the same label; None without labels.
        map: mean average precision of ranking all other images.
    """

    bytes: int
    ms: float
    top_1: float | None = None
    map: float | None = None


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        folder: the artefact's.
        dimension: of the embeddings.
        difference: largest difference of an embedding by torch and by ONNX Runtime in float, relative to the mean length.
        in_float: of the encoder with float weights.
        in_int8: of the encoder in int8; None if it is not.
        cosine: mean cosine of the embeddings in int8 and in float.
        min_cosine: the smallest one.
        images: number of images that measured all of this.
    """

    folder: Path
    dimension: int
    difference: float
    in_float: Measured
    images: int
    in_int8: Measured | None = None
    cosine: float | None = None
    min_cosine: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self) | {"folder": str(self.folder)}


def convert(where: str, to: Path, options: ConvertOptions, progress: Progress = SILENT) -> Conversion:
    """Convert a state dict to an encoder artefact in a new folder.

    Args:
        where: a ``.safetensors`` file, ``hf://…``, or a run; see `lookalike.learn.state_dict.read`.
        to: the new folder, whose name becomes the encoder's.
        options: network, input and int8.
        progress: receives the stages “exporting” and “measuring”.

    Raises:
        AlreadyExistsError: the folder exists.
        UsageError: the file is a pickle, or an option is invalid.
        MismatchError: the weights do not fit the network.
        EncoderError: ONNX and torch disagree.
        DataError: there are too few images.
        LookalikeError: as `state_dict.read`.
    """
    if to.exists():
        raise AlreadyExistsError(f"{to} already exists. Give --to a new folder.")
    state = state_dict.read(where)
    found = {} if "backbone" in options.network and not state.trained else state_dict.find_settings(state)
    network = found | dict(options.network)
    branches = {name: branch.eval() for name, branch in state_dict.build(state, network).items()}
    card = _card(state, to.name, branches, _input(state, network, options.input))
    data = _open_images(options, card)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=to.parent) as part:
            new = Path(part) / "encoder"
            result = _write(new, card, branches, data, options, progress)
            new.rename(to)
    except OSError as e:
        raise StorageError(f"{to} cannot be written: {reason_of(e)}. Choose another folder.") from e
    atomic.sync(to.parent)
    return replace(result, folder=to)


def parse_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse ``network.KEY=VALUE`` and ``input.KEY=VALUE``; values are YAML.

    Raises:
        UsageError: a key begins with another word.
        RecipeError: a value is not YAML.
    """
    tree: dict[str, Any] = {"network": {}, "input": {}}
    for change in overrides:
        if not change.startswith(("network.", "input.")):
            raise UsageError(f"-o {change} is unknown: write network.KEY=VALUE or input.KEY=VALUE, as input.size=224.")
        recipe.override(tree, change)
    return tree["network"], tree["input"]


def _input(state: StateDict, network: Mapping[str, Any], given: Mapping[str, Any]) -> Input:
    defaults = _default_input(state, network)
    if "resize" in defaults and given.keys() & {"size", "fit"}:
        defaults = {k: v for k, v in defaults.items() if k not in {"resize", "interpolation"}}
    try:
        return Input.model_validate(defaults | dict(given))
    except ValidationError as e:
        first = e.errors()[0]
        if first["type"] == "missing":
            raise UsageError(
                f"The input size of {state.source} is unknown. Give the pixels a side that it was trained with: -o input.size=64."
            ) from e
        key = ".".join(["input", *map(str, first["loc"])])
        raise UsageError(f"{key}: {plain_reason(first['msg'])}.") from e


def _default_input(state: StateDict, network: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input of the run, or of the network's ImageNet weights; without size if there are none."""
    if state.stage:
        return state.stage.data.model_dump(include={"size", "fit", "mean", "std"})
    kind = network["backbone"]
    if expected := imagenet_input({"backbone": kind, "weights": IMAGENET}):
        return {"fit": "squash", **expected}
    if network.get("stem") == "small" or kind in {"fast", "cnn", "koch"}:
        return {"fit": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    resized = _RESIZED.get(kind, 256)
    return {"size": 224, "fit": "crop", "resize": resized, "interpolation": "bilinear", "mean": _MEAN, "std": _STD}


def _card(state: StateDict, name: str, branches: Mapping[Branch, BranchNetwork], spec: Input) -> Card:
    try:
        with torch.inference_mode():
            example = torch.zeros(2, 3, spec.size, spec.size)
            (dimension,) = {branch(example).shape[1] for branch in branches.values()}
    except RuntimeError as e:
        raise UsageError(f"The network does not take images of {spec.size} pixels. Give a larger -o input.size.") from e
    trained = state.trained
    try:
        return Card(
            name=name,
            description=trained.description if trained else f"Converted from the weights {Path(state.source).name}.",
            scope=trained.scope if trained else None,
            licence=trained.licence if trained else "not stated",
            dimension=dimension,
            output="float",
            metric=Metric.EUCLIDEAN,
            input=spec,
            branches=tuple(branches),
        )
    except ValidationError as e:
        raise UsageError(f"“{name}” cannot be the name of an encoder. Give --to another folder.") from e


# ---- images


@dataclass(frozen=True, eq=False)
class _Images:
    """Fitted images to calibrate with, and others to measure on."""

    calibrated: UInt8[np.ndarray, "c s s 3"]
    measured: UInt8[np.ndarray, "n s s 3"]
    labels: Int64[np.ndarray, " n"] | None


def _open_images(options: ConvertOptions, card: Card) -> _Images:
    spec = card.input
    if options.images is None:
        drawn = [product.photo() for product in sample.catalogue(agreement.COMPARED)]
        fitted = [images.load(np.asarray(image), spec.size, spec.fitting) for image in drawn]
        return _Images(np.stack(fitted)[:0], np.stack(fitted), None)
    dataset = datasets.open_dataset(datasets.infer_source(options.images), labelled=options.labelled)
    dataset = dataset.take(~dataset.sketch)
    order = np.random.default_rng(0).permutation(len(dataset))[: _CALIBRATED + _MEASURED]
    pixels, rows = [], []
    for batch in datasets.decode_batches(dataset.take(order), spec.size, spec.fitting):
        pixels.append(batch.images)
        rows.append(order[batch.rows])
    decoded, labels = np.concatenate(pixels), dataset.labels[np.concatenate(rows)]
    count = min(_CALIBRATED, len(decoded) // 2) if options.int8 == "static" else 0
    if options.int8 == "static" and count < _MIN_CALIBRATED:
        raise DataError(
            f"{options.images} has {len(decoded)} images that can be decoded; static int8 needs {2 * _MIN_CALIBRATED}, and about 100"
            " to be good."
        )
    return _Images(decoded[:count], decoded[count:], labels[count:] if options.labelled else None)


# ---- networks


def _write(
    folder: Path,
    card: Card,
    branches: Mapping[Branch, BranchNetwork],
    data: _Images,
    options: ConvertOptions,
    progress: Progress,
) -> Conversion:
    folder.mkdir()
    atomic.write_text(folder / "encoder.json", card.model_dump_json(indent=2) + "\n")
    atomic.write_text(folder / "README.md", f"# {card.name}\n\n{card.description}\n")
    models = {}
    for done, (name, branch) in enumerate(branches.items()):
        progress.advance("exporting", done, len(branches), name)
        models[name] = to_onnx(branch, card.input.size)
        save_network(with_float16_weights(models[name]), folder / f"{name}.onnx")
    difference = max(_check(folder, name, branches[name], models[name], data.measured) for name in branches)
    progress.advance("measuring", 0, 2)
    before, exact = _measure(folder, data)
    result = Conversion(folder, card.dimension, difference, before, len(data.measured))
    if options.int8 is None:
        return result
    for name, model in models.items():
        if options.int8 == "dynamic":
            save_network(quantise.dynamic(model), folder / f"{name}.onnx")
        elif name == "photo":
            save_network(
                quantise.static(model, normalise(to_tensor(data.calibrated), card.input).numpy()),
                folder / f"{name}.onnx",
            )
        else:
            progress.note(f"The {name} branch stays in float: the images to calibrate with are photos.")
    progress.advance("measuring", 1, 2)
    after, rounded = _measure(folder, data)
    cosines = agreement.cosines(rounded, exact)
    return replace(result, in_int8=after, cosine=float(cosines.mean()), min_cosine=float(cosines.min()))


def _check(
    folder: Path, name: Branch, branch: BranchNetwork, model: onnx.ModelProto, pixels: UInt8[np.ndarray, "n s s 3"]
) -> float:
    """Return how far ONNX Runtime is from torch; with float32 weights if float16 ones move embeddings too far.

    Raises:
        EncoderError: both are too far, or the network gives no numbers.
    """
    images = pixels[: agreement.COMPARED]
    with torch.inference_mode():
        expected = branch(normalise(to_tensor(images), Encoder.open(folder).card.input)).numpy()
    length = float(np.linalg.norm(expected, axis=1).mean())
    if not np.isfinite(length) or length == 0:
        raise EncoderError(f"The {name} branch gives embeddings of length {length}; are the weights trained?")
    advice = "Check that the weights are trained, and that input.mean and input.std are those of the training."
    return agreement.check_float(folder, name, model, images, expected, advice)


def _measure(folder: Path, data: _Images) -> tuple[Measured, Float32[np.ndarray, "n d"]]:
    """Measure the encoder in a folder, and return its embeddings of photos."""
    encoder = Encoder.open(folder)
    timed = data.measured[:_TIMED]
    encoder.embed(timed)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        encoder.embed(timed)
        times.append(time.perf_counter() - start)
    embeddings = np.concatenate([encoder.embed(part) for part in _batches(data.measured)])
    size = sum((folder / f"{branch}.onnx").stat().st_size for branch in encoder.card.branches)
    measured = Measured(size, 1000 * min(times) / len(timed))
    if data.labels is not None:
        scores = retrieval.leave_one_out(LabelledVectors(embeddings, data.labels), encoder.card.metric)
        measured = replace(measured, top_1=scores.top_1, map=scores.map)
    return measured, embeddings


def _batches(pixels: UInt8[np.ndarray, "n s s 3"]) -> Iterator[UInt8[np.ndarray, "b s s 3"]]:
    return (pixels[start : start + _TIMED] for start in range(0, len(pixels), _TIMED))
