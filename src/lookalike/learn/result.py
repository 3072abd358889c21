"""What a run leaves behind: the encoder, calibrated, and a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from lookalike.datasets import Samples
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration, calibrate
from lookalike.errors import DataError
from lookalike.evaluation import calibration, report, verification
from lookalike.evaluation.subject import Subject, of_samples
from lookalike.learn import export
from lookalike.learn import recipe as recipes
from lookalike.learn.networks import Siamese

# Pairs that distances are calibrated on.
_PAIRS = 40_000


def write(
    recipe: recipes.Recipe,
    network: Siamese,
    folder: Path,
    *,
    training: Samples,
    validation: Samples,
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
    subject = of_samples(encoder, validation)
    if fitted := _calibration(subject, recipe):
        calibrate(artefact, fitted)
    about = report.About(
        encoder=recipe.name,
        data=f"{len(validation):,} pictures held out of training",
        metric=subject.metric,
        seed=recipe.seed,
        facts={"trained on": f"{len(training):,} pictures of {len(training.classes)} classes"},
    )
    try:
        made = report.measure(
            subject, validation.classes, about, picture=lambda row: validation.images[row], history=history
        )
    except DataError as e:  # the encoder is none the worse for it
        console.print(f"no report of what it has learned: {e}")
        return
    console.print(f"what it has learned: {report.write(made, folder)}")


def _calibration(subject: Subject, recipe: recipes.Recipe) -> Calibration | None:
    """What distances mean, from pairs of held-out photos; None where there are no pairs to draw."""
    photos = subject.photos
    try:
        pairs = verification.draw(subject.labels[photos], _PAIRS, recipe.seed)
    except DataError:
        return None
    distances = pairs.distances(subject.embeddings[photos], subject.metric)
    return calibration.fit(distances, pairs.same, subject.metric, f"the validation split of {recipe.name}")
