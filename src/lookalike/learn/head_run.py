"""A run that fits a head: embed once, choose a head, say what it gains, and write the encoder."""

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lookalike import atomic, datasets
from lookalike.datasets.dataset import Dataset, abbreviate
from lookalike.embedding import Embedder
from lookalike.encoders import Card, Encoder
from lookalike.encoders.card import Calibration, Provenance
from lookalike.encoders.network import one_line
from lookalike.errors import DataError, EncoderError, MismatchError, RecipeError, StorageError
from lookalike.evaluation import calibration
from lookalike.evaluation.embedded import EmbeddedDataset, embed_dataset
from lookalike.folder import load_encoder
from lookalike.learn.agreement import save_network
from lookalike.learn.export import shorten_paths
from lookalike.learn.heads import Features, Head, choice, fitting, onnx_graph
from lookalike.learn.heads.choice import Trial
from lookalike.learn.heads.features import reduce_output, widen_output
from lookalike.learn.heads.head import unit_vectors
from lookalike.learn.heads.scores import Gain, measure_gain, score_queries
from lookalike.learn.recipe.head_recipe import BESIDE, CANDIDATES, HeadRecipe, Unchanged
from lookalike.learn.run_folder import RunFolder
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress
from lookalike.query import Branch
from lookalike.shapes import Bool, Float32, Int64
from lookalike.tables import plural

MIN_IMAGES = 20
"""Fewest images that a head is fitted to."""

# Fewest held-out pairs of each kind for a calibration.
_MIN_PAIRS = 100

# The largest difference of a number of an embedding of length 1 between ONNX Runtime and NumPy.
_TOLERANCE = 1e-2

# A difference of mAP that is worth a hint.
_CLEARLY = 0.01

# Queries that measure the gain, at most.
_QUERIES = 2_000


@dataclass(frozen=True)
class HeadRun:
    """The result of fitting a head.

    Attributes:
        encoder: the folder of the encoder.
        recipe: with the head that was chosen.
        trials: the heads that were compared, the best one first; empty if the recipe names one.
        images: number of images that the head was fitted to.
        classes: number of their classes.
        held_out: what measured the gain, such as “725 held-out images of 98 classes”; empty if there was too little.
        top_1: the gain in top-1; none if there was too little to hold out.
        map: the gain in mean average precision.
        calibrated: whether the encoder is calibrated on the held-out images.
        seconds: of embedding, choosing and fitting.
    """

    encoder: Path
    recipe: HeadRecipe
    trials: tuple[Trial, ...]
    images: int
    classes: int
    held_out: str
    top_1: Gain | None
    map: Gain | None
    calibrated: bool
    seconds: float

    @property
    def head_name(self) -> str:
        """The kind of head, and its most important setting."""
        return choice.head_name(self.recipe.head) if self.recipe.head != "auto" else ""

    @property
    def improved(self) -> bool:
        """Whether the encoder has a head: the recipe names one, or one was better than none."""
        return not isinstance(self.recipe.head, Unchanged)

    @property
    def better_for_images(self) -> Trial | None:
        """A head that retrieves new images of the same classes clearly better than the chosen one; none if no head does."""
        measured = [trial for trial in self.trials if trial.images is not None]
        best = max(measured, key=lambda trial: trial.images or 0, default=None)
        if best is None or (best.images or 0) - (self.trials[0].images or 0) < _CLEARLY:
            return None
        return best

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        tree = {name: None if (gain := getattr(self, name)) is None else asdict(gain) for name in ("top_1", "map")}
        head = self.recipe.to_tree()["head"]
        return {
            "encoder": str(self.encoder),
            "from": self.recipe.encoder,
            "head": head,
            "images": self.images,
            "classes": self.classes,
            "held_out": self.held_out,
            **tree,
            "trials": [
                {"head": trial.settings.model_dump(mode="json"), "classes": trial.classes, "images": trial.images}
                for trial in self.trials
            ],
            "calibrated": self.calibrated,
            "seconds": round(self.seconds, 1),
        }


def train_head(recipe: HeadRecipe, folder: Path, progress: Progress = SILENT) -> HeadRun:
    """Fit a head to labelled images, on the embeddings of an existing encoder.

    Args:
        recipe: the encoder, the images and the head.
        folder: of the run, which must be empty or not exist. It gets ``recipe.yaml`` with the head that was chosen,
            ``result.json`` and ``encoder/``.
        progress: receives the stages ``"embedding"`` and ``"choosing"``.

    Raises:
        AlreadyExistsError, StorageError: the folder is not empty, or cannot be written.
        DataError: there are too few images or classes.
        MismatchError: the recipe names the fingerprint of another encoder.
        NotFoundError, EncoderError: the encoder does not exist, or its network cannot be changed.
        RecipeError: the encoder gives bits.
    """
    recipe = recipe.absolute()
    base = _load_base(recipe)
    RunFolder(folder).check_new()
    with tempfile.TemporaryDirectory() as part:
        return _fit_and_write(recipe, _widen(base, Path(part)), folder, progress)


def _fit_and_write(recipe: HeadRecipe, base: "_Base", folder: Path, progress: Progress) -> HeadRun:
    start = time.monotonic()
    card = base.encoder.card
    embedded = _embed(recipe, Embedder.of(base.wide), progress)
    features, labels = base.split(embedded.embeddings), embedded.labels
    held_out = hold_out(labels, recipe.data.held_out, recipe.seed)
    settings, trials = recipe.head, list[Trial]()
    if settings == "auto":
        candidates = CANDIDATES if features.inner is None else (*CANDIDATES, *BESIDE)
        trials = choice.choose(
            features.take(~held_out), labels[~held_out], candidates, recipe.seed, progress, by=recipe.choose_by
        )
        settings = trials[0].settings if trials else Unchanged()
    fitted = fitting.fit(features.take(~held_out), labels[~held_out], settings, recipe.seed)
    kept = features.embeddings[held_out], features.take(held_out).apply(fitted), labels[held_out]
    gains = _gains(*kept, recipe.seed)
    final = fitting.fit(features, labels, settings, recipe.seed)
    recipe = recipe.model_copy(update={"head": settings, "fingerprint": base.encoder.fingerprint})
    known = _calibrate(kept[1], kept[2], card.metric, recipe)
    classes = len(np.unique(labels))
    result = HeadRun(
        encoder=folder / "encoder",
        recipe=recipe,
        trials=tuple(trials),
        images=len(labels),
        classes=classes,
        held_out=f"{int(held_out.sum()):,} held-out images of {_classes(len(np.unique(kept[2])))}",
        top_1=gains[0] if gains else None,
        map=gains[1] if gains else None,
        calibrated=known is not None,
        seconds=time.monotonic() - start,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if final is not None and "text" in card.branches:
            progress.note("The head is for images, so the new encoder has no branch for texts.")
        _write_encoder(result, base, final, known)
        atomic.write_text(folder / "result.json", json.dumps(result.to_dict(), indent=2) + "\n")
        atomic.write_text(folder / "recipe.yaml", recipe.to_yaml())
    except OSError as e:
        raise StorageError(f"The run in {folder} cannot be written: {e}.") from e
    finally:
        shutil.rmtree(folder / "encoder.new", ignore_errors=True)
        with suppress(OSError):  # it has files, unless the encoder could not be written
            folder.rmdir()
    return result


def hold_out(labels: Int64[np.ndarray, " n"], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Draw images that measure a gain: a share of each class that has four images or more, or else of whole classes.

    Every class keeps two images, or none. Nothing is drawn if there is too little.
    """
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    classes, counts = np.unique(labels, return_counts=True)
    large = classes[counts >= 4]  # noqa: PLR2004 -- a pair to fit, and a pair to measure
    if 2 * np.isin(labels, large).sum() >= len(labels) and len(large) > 1:
        for label in large:
            rows = rng.permutation(np.flatnonzero(labels == label))
            held_out[rows[: min(max(2, round(share * len(rows))), len(rows) - 2)]] = True
    elif len(classes) >= 4:  # noqa: PLR2004 -- as above
        drawn = rng.permutation(classes)[: min(max(2, round(share * len(classes))), len(classes) - 2)]
        held_out = np.isin(labels, drawn)
    return held_out


def _load_base(recipe: HeadRecipe) -> Encoder:
    base = load_encoder(recipe.encoder)
    if base.card.output == "bits":
        raise RecipeError(
            f"“{base.card.name}” gives bits, to which no head can be fitted. Begin from an encoder of floats."
        )
    if recipe.fingerprint not in (None, base.fingerprint):
        raise MismatchError(
            f"The recipe is for another encoder than “{base.card.name}” in {base.folder}: its fingerprint is"
            f" {base.fingerprint[:12]}…, not {str(recipe.fingerprint)[:12]}…. Leave fingerprint out to use this one."
        )
    return base


@dataclass(frozen=True)
class _Base:
    """The encoder to improve.

    Attributes:
        encoder: the encoder.
        wide: the same, whose embeddings are followed by the features before its last layers; the encoder itself if it has none.
    """

    encoder: Encoder
    wide: Encoder

    def split(self, embeddings: Float32[np.ndarray, "n w"]) -> Features:
        """Split embeddings of the wide encoder."""
        dimension = self.encoder.card.dimension
        own, inner = embeddings[:, :dimension], embeddings[:, dimension:]
        if self.encoder.card.metric is Metric.COSINE:  # a head is fitted to directions
            own = unit_vectors(own)
        return Features(own, inner if inner.shape[1] else None)


def _widen(base: Encoder, folder: Path) -> _Base:
    """Make the wide encoder in a folder, if each branch for images has as many features before its last layers."""
    branches = [branch for branch in base.card.branches if branch != "text"]
    sizes = set[int]()
    for branch in branches:
        with _explain_failure(base, branch):
            model, size = widen_output(onnx.load(base.folder / f"{branch}.onnx"), base.card)
        save_network(model, folder / f"{branch}.onnx")
        sizes.add(size)
    if len(sizes) != 1 or 0 in sizes:
        return _Base(base, base)
    changes = {"dimension": base.card.dimension + sizes.pop(), "network_output": None, "calibrations": ()}
    card = Card.model_validate(base.card.model_dump() | changes | {"branches": branches, "text": None})
    atomic.write_text(folder / "encoder.json", card.model_dump_json() + "\n")
    return _Base(base, Encoder.open(folder))


def _embed(recipe: HeadRecipe, embedder: Embedder, progress: Progress) -> EmbeddedDataset:
    """Embed the images of all sources but their test splits, and leave out sketches and classes of one image.

    Raises:
        DataError: there are too few images or classes.
    """
    parts = []
    for source in recipe.data.sources:
        dataset = datasets.open_dataset(source)
        rows = ~dataset.sketch if dataset.splits is None else ~dataset.sketch & (dataset.splits != "test")
        dataset = _without_single(dataset.take(rows), progress)
        parts.append(embed_dataset(embedder, dataset, progress))
    for failure in (failure for part in parts for failure in part.failures):
        progress.note(f"left out: {failure}")
    first = np.cumsum([0, *(len(part.classes) for part in parts)])
    labels = np.concatenate([part.labels + n for part, n in zip(parts, first, strict=False)])
    embeddings = np.concatenate([part.embeddings for part in parts])
    counts = np.bincount(labels)
    kept = counts[labels] > 1  # again, since some images may not be readable
    embeddings, labels = embeddings[kept].astype(np.float32), labels[kept]
    if len(labels) < MIN_IMAGES:
        raise DataError(
            f"{plural(len(labels), 'image')} in classes of two or more are too few for a head; give at least {MIN_IMAGES}."
        )
    if len(np.unique(labels)) < 2:  # noqa: PLR2004 -- a pair of classes
        name = [name for part in parts for name in part.classes][labels[0]]
        raise DataError(f"There is only one class with two images or more, “{name}”; a head needs at least two.")
    return EmbeddedDataset(embeddings, labels, embedder.metric)


def _without_single(dataset: Dataset, progress: Progress) -> Dataset:
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    if single := [name for name, count in zip(dataset.classes, counts.tolist(), strict=True) if count == 1]:
        progress.note(f"{_classes(len(single))} of {dataset.name} with one image left out: {abbreviate(single)}.")
    kept = dataset.take(counts[dataset.labels] > 1)
    if not len(kept):
        raise DataError(
            f"No class of {dataset.name} has two images, so nothing can be learned. Add images to the classes."
        )
    return kept


def _gains(
    before: Float32[np.ndarray, "n f"], after: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], seed: int
) -> tuple[Gain, Gain] | None:
    """Compare embeddings of held-out images without and with the head: top-1 and mAP."""
    queries = np.random.default_rng(seed).permutation(len(labels))[:_QUERIES]
    old, new = score_queries(before, labels, queries), score_queries(after, labels, queries)
    if not len(old.queries):
        return None
    units = labels[old.queries]
    return (
        measure_gain(old.top_1, new.top_1, units, seed),
        measure_gain(old.average_precision, new.average_precision, units, seed),
    )


def _calibrate(
    embeddings: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], metric: Metric, recipe: HeadRecipe
) -> Calibration | None:
    """Calibrate distances on held-out images, which the head of these embeddings was not fitted to; none if they are few."""
    try:
        pairs = calibration.draw(labels, calibration.PAIRS, recipe.seed)
    except DataError:
        return None
    if min(pairs.same.sum(), (~pairs.same).sum()) < _MIN_PAIRS:
        return None
    data = f"{len(labels):,} images that were held out of the training of {recipe.name}"
    return calibration.fit(pairs.distances(embeddings, metric), pairs.same, metric, data)


# ---- the encoder


def _write_encoder(run: HeadRun, base: _Base, head: Head | None, known: Calibration | None) -> None:
    """Write the artefact, and check that its embeddings are those of the head.

    Raises:
        EncoderError: the head cannot be appended to the network.
    """
    folder, old = run.encoder, base.encoder
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    dimension = old.card.dimension if head is None else head.dimension
    card = _card(run, old.card, dimension, known, unchanged=head is None)
    atomic.write_text(new / "encoder.json", card.model_dump_json(indent=2) + "\n")
    atomic.write_text(new / "README.md", _model_card(run, card, old.card))
    if head is None:
        for name in old.files[1:]:
            shutil.copyfile(old.folder / name, new / name)
    else:
        for branch in card.branches:
            _append(old, branch, head, new)
        _check(Encoder.open(new), base, head)
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)
    atomic.sync(folder.parent)


@contextmanager
def _explain_failure(base: Encoder, branch: Branch) -> Iterator[None]:
    try:
        yield
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as e:  # also those of the converter of versions
        raise EncoderError(f"No head can be appended to {branch}.onnx of “{base.card.name}”: {one_line(e)}") from e


def _append(base: Encoder, branch: Branch, head: Head, folder: Path) -> None:
    with _explain_failure(base, branch):
        model = onnx.load(base.folder / f"{branch}.onnx")
        model = widen_output(model, base.card)[0] if head.kept else reduce_output(model, base.card)
        model = onnx_graph.append(model, head)
    save_network(model, folder / f"{branch}.onnx")


def _check(encoder: Encoder, base: _Base, head: Head) -> None:
    """Compare ONNX Runtime with NumPy on noise.

    Raises:
        EncoderError: they disagree.
    """
    size = encoder.card.input.size
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    for branch in encoder.card.branches:
        expected = base.split(base.wide.embed(noise, branch)).apply(head)
        difference = float(np.abs(encoder.embed(noise, branch) - expected).max())
        if difference > _TOLERANCE:
            raise EncoderError(
                f"The network {branch}.onnx with a head gives other embeddings than expected, by {difference:.4f}."
                " Begin from another encoder."
            )


def _card(run: HeadRun, base: Card, dimension: int, known: Calibration | None, *, unchanged: bool) -> Card:
    recipe = run.recipe
    figures = dict[str, float]()
    for name, gain in (("top_1", run.top_1), ("map", run.map)):
        if gain is not None:
            figures |= {f"validation.{name}": round(gain.after, 5), f"validation.{name}.before": round(gain.before, 5)}
    tree = recipe.to_tree()
    shorten_paths(tree["data"]["sources"])
    tree["from"] = base.name
    fields = base.model_dump() | {
        "name": recipe.name,
        "description": recipe.description or _describe(run, base),
        "scope": recipe.scope,
        "dimension": dimension,
        "calibrations": () if known is None else (known.model_dump(),),
        "provenance": Provenance(
            recipe=tree,
            seed=recipe.seed,
            minutes=round(run.seconds / 60, 2),
            machine=platform.machine(),
            versions={p: version(p) for p in ("lookalike", "torch", "numpy", "onnx")},
            images=run.images,
            figures=figures,
            weights=f"the encoder “{base.name}”, fingerprint {recipe.fingerprint}, licence {base.licence}"[:400],
        ).model_dump(),
    }
    if not unchanged:
        fields |= {"network_output": None, "text": None, "branches": [b for b in base.branches if b != "text"]}
    return Card.model_validate(fields)


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count:,} classes"


def _describe(run: HeadRun, base: Card) -> str:
    what = "with a new calibration" if not run.improved else f"with a head ({run.head_name})"
    return f"“{base.name}” {what}, from {run.images:,} images of {_classes(run.classes)}."


def _model_card(run: HeadRun, card: Card, base: Card) -> str:
    rows = [f"| {name} | {gain} |" for name, gain in (("top-1", run.top_1), ("mAP", run.map)) if gain is not None]
    scores = "\n".join([f"On {run.held_out}:", "", "| score | before → after |", "|---|---|", *rows]) if rows else ""
    origin = " ".join(base.description.split())
    return f"""# {card.name}

{card.description}

{scores}

It began from the encoder “{base.name}” ({run.recipe.fingerprint}), licence {base.licence}: {origin}

The recipe is in `encoder.json`.
"""
