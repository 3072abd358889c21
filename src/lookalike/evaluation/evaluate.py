"""Evaluation of an embedder on labelled images, for the Python API and the command line."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter

from lookalike import datasets
from lookalike.datasets import Dataset
from lookalike.embedding import Embedder
from lookalike.errors import DataError, UsageError
from lookalike.evaluation import omniglot, protocols
from lookalike.evaluation.embedded import EmbeddedDataset, embed_dataset
from lookalike.evaluation.protocols import EvaluationOptions, Task
from lookalike.evaluation.results import About, Evaluation
from lookalike.progress import SILENT, Progress
from lookalike.untrusted import parsing

T = TypeVar("T")

_DEFAULTS = EvaluationOptions()


@dataclass(frozen=True)
class EvaluationData:
    """The data of an evaluation.

    Attributes:
        name: for the report.
        dataset: labelled images to measure.
        threshold_dataset: labelled images to choose the verification threshold on; None chooses it on half of the dataset.
        one_shot_runs: official one-shot runs of Omniglot.
    """

    name: str
    dataset: Dataset | None = None
    threshold_dataset: Dataset | None = None
    one_shot_runs: tuple[omniglot.OneShotRun, ...] = ()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        split: str | None = None,
        classes: tuple[str, ...] | None = None,
        sketches: str | os.PathLike[str] | None = None,
        threshold_from: str | os.PathLike[str] | None = None,
        one_shot_runs: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Open labelled images, one-shot runs, or both.

        Args:
            path: a folder, .csv or .npz; see `lookalike.datasets`.
            split: the split to measure; by default test, or validation if there is no test split. If test is measured,
                the validation split chooses the threshold.
            classes: measure only these classes.
            sketches: a folder of sketches of the images, which become the queries of retrieval.
            threshold_from: labelled images to choose the threshold on, in place of the validation split.
            one_shot_runs: Omniglot's ``all_runs.zip``, or a folder of the same layout.

        Raises:
            UsageError: neither images nor runs are given, or a setting does not fit the layout.
            NotFoundError: a path does not exist.
            DataError: the data is invalid, or has fewer than two classes, or no class with two images.
        """
        if path is None and one_shot_runs is None:
            raise UsageError(
                "There is nothing to measure: give labelled images as data (--data), or Omniglot's runs (--runs)."
            )
        runs = () if one_shot_runs is None else omniglot.read_runs(one_shot_runs)
        if path is None:
            return cls(describe_path(None), one_shot_runs=runs)
        settings = {name: value for name, value in (("sketches", sketches), ("classes", classes)) if value is not None}
        dataset, threshold_dataset = _open_splits(path, split, settings)
        protocols.check_labels(dataset.labels)
        if threshold_from is not None:
            threshold_dataset, _ = _open_splits(threshold_from, None, {})
        return cls(describe_path(Path(path), split), dataset, threshold_dataset, runs)


def evaluate(
    embedder: Embedder,
    data: EvaluationData | str | os.PathLike[str],
    options: EvaluationOptions = _DEFAULTS,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure retrieval, verification and few-shot classification of an embedder.

    Args:
        embedder: what to measure. The results include the curves of its training run.
        data: what to measure it on; a path is opened by `EvaluationData.open`.
        options: what to measure, and how much of it.
        progress: receives the stages “embedding”, “measuring” and “one-shot runs”.

    Raises:
        NotFoundError: the data does not exist.
        DataError: the data is invalid, or is too small for a required task.
        UsageError: an option is invalid, or the data has sketches and the encoder has no sketch branch.
    """
    if not isinstance(options, EvaluationOptions):
        raise UsageError(f"The options are EvaluationOptions, not {type(options).__name__}.")
    if not isinstance(data, EvaluationData):
        data = EvaluationData.open(data)
    about = describe(embedder, data.name, options.seed)
    evaluation = Evaluation(about, history=read_history(embedder))
    if data.dataset is not None:
        protocols.check_labels(data.dataset.labels)
        embedded = embed_dataset(embedder, data.dataset, progress)
        threshold_data = None
        if data.threshold_dataset is not None:
            threshold_data = embed_dataset(embedder, data.threshold_dataset, progress)
            embedded = replace(embedded, failures=embedded.failures + threshold_data.failures)
        measured = evaluate_embeddings(embedded, options, threshold_data, about, progress)
        evaluation = replace(measured, history=evaluation.history)
    if data.one_shot_runs:
        runs = omniglot.classify_runs(data.one_shot_runs, embedder.embed, embedder.metric, progress)
        evaluation = replace(evaluation, one_shot_runs=runs)
    return evaluation


def evaluate_embeddings(
    data: EmbeddedDataset,
    options: EvaluationOptions = _DEFAULTS,
    threshold_data: EmbeddedDataset | None = None,
    about: About | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure embeddings of any encoder.

    Args:
        data: embeddings and labels.
        options: what to measure, and how much of it.
        threshold_data: embeddings to choose the verification threshold on; None chooses it on half of the data.
        about: the encoder, data and settings, for the report.
        progress: receives the stage “measuring”.

    Raises:
        DataError: there are fewer than two classes, no class has two images, or the data is too small for a required task.
    """
    protocols.check_labels(data.labels)
    measures: dict[Task, tuple[str, Callable[[], Any]]] = {
        "retrieval": ("retrieval", lambda: protocols.evaluate_retrieval(data)),
        "verification": ("verification", lambda: protocols.evaluate_verification(data, options, threshold_data)),
        "few-shot": ("few_shot", lambda: protocols.evaluate_few_shot(data, options)),
    }
    results: dict[str, Any] = {}
    not_measured: list[str] = []
    for number, task in enumerate(options.tasks):
        progress.advance("measuring", number, len(options.tasks), task)
        name, measure = measures[task]
        try:
            results[name] = measure()
        except (DataError, UsageError) as e:
            if options.required:
                raise
            not_measured.append(f"{task}: {e}")
    progress.advance("measuring", len(options.tasks), len(options.tasks))
    about = about or About(data.metric, options.seed)
    return Evaluation(about, **results, not_measured=tuple(not_measured), data=data)


def describe(embedder: Embedder, data: str, seed: int) -> About:
    """Describe an embedder for a report."""
    card = embedder.encoder.card
    facts = {
        "input": f"{card.input.size} px, {card.input.fit}"
        + (f", {card.input.crops} crops" if card.input.crops > 1 else ""),
        "embedding": f"{card.dimension} {card.output}s",
        "fingerprint": embedder.fingerprint[:16],
    }
    if card.provenance:
        facts["trained"] = f"{card.provenance.minutes:.0f} minutes on {card.provenance.images:,} images"
    return About(embedder.metric, seed, card.name, data, facts)


def describe_path(path: Path | None, split: str | None = None) -> str:
    """Describe data by the last two names of its path, since the last one is often “test”, and by its split."""
    if path is None:
        return "Omniglot's one-shot runs"
    name = "/".join(path.absolute().parts[-2:]).lstrip("/")
    return f"{name} ({split})" if split else name


_FIGURES = TypeAdapter(dict[str, float])


def read_history(embedder: Embedder) -> tuple[Mapping[str, float], ...]:
    """Read the log of the training run whose folder holds an encoder; empty for an encoder outside a run.

    Raises:
        DataError: the log is invalid.
    """
    log = embedder.encoder.folder.parent / "metrics.jsonl"
    if embedder.encoder.folder.name != "encoder" or not log.exists():
        return ()
    try:
        lines = parsing.read_json_lines(log)
        return tuple(_FIGURES.validate_python({k: v for k, v in line.items() if k != "stage"}) for line in lines)
    except (OSError, ValueError, AttributeError) as e:
        raise DataError(f"{log} is not the log of a training run: {e}. Move it away, or train again.") from e


def _open_splits(
    path: str | os.PathLike[str], split: str | None, settings: Mapping[str, object]
) -> tuple[Dataset, Dataset | None]:
    """Open the split to measure, and the validation split if the test split is measured."""
    whole = datasets.open_dataset(datasets.infer_source(path, **settings))
    if split is None:
        split = next((name for name in ("test", "validation") if name in whole.split_names), None)
    if split is None:
        return whole, None
    dataset = datasets.open_dataset(datasets.infer_source(path, split=split, **settings))
    if dataset.split_names != ("test",) or "validation" not in whole.split_names:
        return dataset, None
    return dataset, datasets.open_dataset(datasets.infer_source(path, split="validation", **settings))
