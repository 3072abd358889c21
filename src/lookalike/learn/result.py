"""What a run leaves behind: the encoder, calibrated, and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from lookalike.datasets import LabelledImages
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration, write_calibration
from lookalike.errors import DataError
from lookalike.evaluation import calibration, report, verification
from lookalike.evaluation.embedded import EmbeddedDataset, embed_images
from lookalike.evaluation.evaluate import evaluate_embeddings
from lookalike.evaluation.protocols import EvaluationOptions
from lookalike.evaluation.results import About
from lookalike.learn import export
from lookalike.learn import recipe as recipes
from lookalike.learn.networks import Siamese

# Pairs that distances are calibrated on.
_PAIRS = 40_000

# Pairs of different pictures where each picture is a class: copies are looked for among millions of pairs.
_IMPOSTORS = 1_000_000


def write(
    recipe: recipes.Recipe,
    network: Siamese,
    folder: Path,
    *,
    training: LabelledImages,
    validation: LabelledImages,
    history: Sequence[Mapping[str, float]],
    line: Mapping[str, float],
    console: Console,
) -> None:
    """Write ``encoder/``, calibrated on the validation split, and ``report.html`` beside it, where pairs can be drawn.

    Args:
        recipe: the run's.
        network: what was trained.
        folder: the run's.
        training: what it was trained on.
        validation: what was held out.
        history: the lines of metrics.jsonl.
        line: the one of the epoch that is exported.
        console: hears where the report is.

    Raises:
        EncoderError: ONNX and torch disagree.
    """
    artefact = export.write(
        recipe,
        network,
        folder / "encoder",
        samples=validation,
        pictures=len(training),
        minutes=history[-1]["minutes"],
        figures={k: v for k, v in line.items() if k.startswith("validation")},
    )
    encoder = Encoder.open(artefact)
    embedded = embed_images(Embedder.of(encoder), validation)
    if fitted := _calibration(embedded, recipe):
        write_calibration(artefact, fitted)
    about = About(
        embedded.metric,
        recipe.seed,
        encoder=recipe.name,
        data=_held_out(recipe, validation),
        facts={"trained on": _trained_on(recipe, training)},
    )
    try:
        evaluation = evaluate_embeddings(embedded, EvaluationOptions(seed=recipe.seed), about=about)
    except DataError as e:  # the encoder is none the worse for it
        console.print(f"no report of what it has learned: {e}")
        return
    page = report.write(replace(evaluation, history=tuple(history)), folder)
    console.print(f"what it has learned: {page}")


def _held_out(recipe: recipes.Recipe, validation: LabelledImages) -> str:
    if recipe.data.each_picture:
        return f"{len(validation):,} views of {len(validation.classes):,} pictures held out of training"
    return f"{len(validation):,} pictures held out of training"


def _trained_on(recipe: recipes.Recipe, training: LabelledImages) -> str:
    told = "each a class of its own" if recipe.data.each_picture else f"of {len(training.classes)} classes"
    return f"{len(training):,} pictures {told}"


def _calibration(embedded: EmbeddedDataset, recipe: recipes.Recipe) -> Calibration | None:
    """What distances mean, from pairs of held-out photos; None where there are no pairs to draw."""
    photos = embedded.photos
    try:
        pairs = verification.draw_pairs(embedded.labels[photos], _PAIRS, recipe.seed)
        if recipe.data.each_picture:
            pairs = _with_impostors(pairs, embedded.labels[photos], recipe.seed)
    except DataError:
        return None
    distances = pairs.distances(embedded.embeddings[photos], embedded.metric)
    return calibration.fit(distances, pairs.same, embedded.metric, f"the validation split of {recipe.name}")


def _with_impostors(pairs: verification.LabelledPairs, labels: np.ndarray, seed: int) -> verification.LabelledPairs:
    """The genuine pairs among these, and as many impostor pairs as copies are to be told from."""
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.integers(len(labels), size=(_IMPOSTORS, 2)), axis=1)
    drawn = np.unique(drawn[labels[drawn[:, 0]] != labels[drawn[:, 1]]], axis=0)
    left, right = (
        np.concatenate([one[pairs.same], other]) for one, other in zip((pairs.left, pairs.right), drawn.T, strict=True)
    )
    same = np.arange(len(left)) < pairs.same.sum()
    return verification.LabelledPairs(left, right, same, len(left))
