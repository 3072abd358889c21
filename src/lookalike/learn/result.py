"""The result of a run: the calibrated encoder, and a report."""

from dataclasses import replace

from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration, CalibrationKind, write_calibration
from lookalike.errors import DataError
from lookalike.evaluation import calibration, report
from lookalike.evaluation.embedded import EmbeddedDataset, embed_images
from lookalike.evaluation.evaluate import evaluate_embeddings
from lookalike.evaluation.protocols import EvaluationOptions
from lookalike.evaluation.results import About
from lookalike.learn import export, stopping
from lookalike.learn.export import Training
from lookalike.learn.run_folder import RunFolder
from lookalike.learn.stage_run import StageRun


def write(run: StageRun, folder: RunFolder) -> None:
    """Write ``encoder/`` of the last stage, calibrated on the validation split, and ``report.html`` beside it.

    Without pairs in the validation split there is no calibration and no report.

    Raises:
        EncoderError: ONNX and torch disagree.
    """
    recipe, state = run.recipe, run.state
    held_out = run.photos.held_out if run.photos else run.data.validation
    state.result.load_state_dict(state.result_weights())
    stop = run.stage.train.early_stopping
    exported = state.history[stopping.best_epoch(state.history, stop) - 1] if stop else state.history[-1]
    figures = {k: v for k, v in exported.items() if k.startswith("validation")}
    training = Training(len(run.data.training), state.seconds / 60, figures, state.precision)
    artefact = export.write(recipe, state.result, folder.encoder, run.data, training, run.photos)
    encoder = Encoder.open(artefact)
    embedded = embed_images(Embedder.of(encoder), held_out)
    # A fixed photo branch keeps the calibrations of its encoder.
    if not run.photos and (fitted := _calibration(embedded, run)):
        write_calibration(artefact, fitted)
    about = About(
        embedded.metric,
        recipe.seed,
        encoder=recipe.name,
        data=_describe_validation(run),
        facts={"trained on": _describe_training(run)},
    )
    try:
        evaluation = evaluate_embeddings(embedded, EvaluationOptions(seed=recipe.seed), about=about)
    except DataError as e:  # the encoder is complete without it
        run.progress.note(f"no report: {e}")
        return
    history = tuple({k: v for k, v in line.items() if not isinstance(v, str)} for line in run.log())
    page = report.write(replace(evaluation, history=history), folder.path)
    run.progress.note(f"report: {page}")


def _describe_validation(run: StageRun) -> str:
    held_out = run.data.validation
    if run.stage.data.class_per_image:
        return f"{len(held_out):,} views of {len(held_out.classes):,} images held out of training"
    return f"{len(held_out):,} images held out of training"


def _describe_training(run: StageRun) -> str:
    training = run.data.training
    classes = "each a class of its own" if run.stage.data.class_per_image else f"of {len(training.classes)} classes"
    return f"{len(training):,} images {classes}"


def _calibration(embedded: EmbeddedDataset, run: StageRun) -> Calibration | None:
    """Calibrate distances on pairs of held-out photos; None if there are no pairs."""
    photos = embedded.photos
    recipe = run.recipe
    try:
        pairs = calibration.draw(embedded.labels[photos], calibration.PAIRS, recipe.seed)
    except DataError:
        return None
    distances = pairs.distances(embedded.embeddings[photos], embedded.metric)
    kind: CalibrationKind = "copies" if run.stage.data.class_per_image else "classes"
    return calibration.fit(distances, pairs.same, embedded.metric, f"the validation split of {recipe.name}", kind)
