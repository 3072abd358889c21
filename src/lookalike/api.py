"""The functions of ``import lookalike as la``: one for each task that needs no open collection."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from lookalike import compare, encoders
from lookalike.collection import Collection
from lookalike.compare import Ranking, Verdict
from lookalike.datasets import Source, infer_source
from lookalike.embedding import Embedder, to_batch
from lookalike.encoders import Encoder, EncoderSource, public
from lookalike.errors import MissingExtraError, UsageError
from lookalike.evaluation import calibration
from lookalike.evaluation import evaluate as evaluation
from lookalike.evaluation.calibration import CalibrationData, CalibrationResult
from lookalike.evaluation.evaluate import EvaluationData
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.evaluation.protocols import EvaluationOptions
from lookalike.evaluation.results import Evaluation
from lookalike.folder import Folder, find_folder, is_collection
from lookalike.images import ImageSource
from lookalike.joins import JoinPairs
from lookalike.progress import SILENT, Progress
from lookalike.query import Within, to_branch, to_texts
from lookalike.unicode_forms import to_path

if TYPE_CHECKING:
    from lookalike.learn.sketch_run import SketchRun

DEFAULT_EVALUATION = EvaluationOptions()


def load_encoder(name: EncoderSource = encoders.DEFAULT) -> Encoder:
    """Load an encoder.

    Args:
        name: the name of a bundled or known encoder; the folder of an encoder, a training run or a collection; or
            ``hf://org/repo``. A public encoder is fetched at first, and opened from the cache later.

    Raises:
        NotFoundError: the encoder does not exist, or cannot be fetched.
        UsageError: its licence must be accepted, or its weights must be exported: see `fetch_encoder`.
        EncoderError: its files are damaged.

    Example:
        >>> la.load_encoder("toyshop").card.dimension
        128
    """
    return _to_embedder(name).encoder


def fetch_encoder(name: str, *, accept_licence: bool | Callable[[str], bool] = False) -> Encoder:
    """Fetch a public encoder, or fetch it again, and prepare it for use without a network connection.

    Args:
        name: of a known encoder, ``hf://org/repo[@revision]``, or the folder of a public encoder.
        accept_licence: whether you accept a licence that does not allow every use; or a function that gets a description of
            it, and returns whether you do.

    Raises:
        UsageError: the licence is not accepted, the encoder is gated, or lookalike does not read its form.
        MissingExtraError: the hub's client, or the extra ``learn`` for weights without a graph, is not installed.
        NotFoundError: there is no such encoder, or it cannot be fetched.
        EncoderError: its files are damaged, or refused.

    Example:
        >>> la.fetch_encoder("toyshop").card.name
        'toyshop'
    """
    if name in encoders.bundled():
        return encoders.load(name)
    found = encoders.find(name)
    if isinstance(found, Path):
        return Encoder.open(found)
    question = public.licence_question(found)
    accepted = accept_licence if isinstance(accept_licence, bool) or question is None else accept_licence(question)
    public.check_licence(found, accepted=bool(accepted))
    if not found.layout.needs_learn:
        return Encoder.open(public.make(found))
    try:
        from lookalike.learn.public import make as export  # noqa: PLC0415 -- as in `train`
    except ImportError as e:
        raise MissingExtraError("learn", f"The export of “{found.name}” ({e})") from e
    return Encoder.open(export(found))


def embed(
    image: ImageSource | Sequence[ImageSource], *, encoder: EncoderSource = encoders.DEFAULT, sketch: bool = False
) -> np.ndarray:
    """Embed an image, or a list of images.

    Args:
        image: an image (a path, the content of a file, a Pillow image or a uint8 array), or a list of them.
        encoder: a name, a folder, ``hf://org/repo``, or a loaded encoder.
        sketch: the images are sketches.

    Returns:
        ``(d,)`` for one image, ``(n, d)`` for a list; float32, or packed bits in uint8.

    Raises:
        ImageError, NotFoundError: an image cannot be used.
        UsageError: the encoder does not take sketches, or something is not an image.

    Example:
        >>> la.embed("mug.jpg").shape
        (256,)
        >>> la.embed(["mug.jpg", "other.jpg"]).shape
        (2, 256)
    """
    batch, single = to_batch(image)
    vectors = Embedder.of(_to_embedder(encoder).encoder).embed(batch, to_branch(sketch))
    return np.asarray(vectors[0]) if single else vectors


def verify(
    left: ImageSource,
    right: ImageSource,
    *,
    encoder: EncoderSource = encoders.DEFAULT,
    within: Within | None = None,
    far: float | None = None,
    sketch: bool = False,
) -> Verdict:
    """Decide whether two images show the same thing.

    Args:
        left: an image.
        right: another image, a photo.
        encoder: a name, a folder, ``hf://org/repo``, or a loaded encoder.
        within: the threshold: the largest distance of the same thing, as ``0.35``, or the smallest similarity, as
            ``"80%"``. By default the calibrated threshold.
        far: use the threshold of this false accept rate instead of ``within``.
        sketch: the left image is a sketch.

    Raises:
        ImageError, NotFoundError: an image cannot be used.
        UsageError: the threshold is invalid, or the encoder is not calibrated for the rate.

    Example:
        >>> la.verify("mug.jpg", "mug.jpg", encoder="copies").same
        True
        >>> print(la.verify("mug.jpg", "other.jpg", encoder="toyshop", within="80%"))
        different: distance 0.757 (euclidean), threshold 0.25
    """
    embedder, branch = _to_embedder(encoder), to_branch(sketch)
    return compare.verify(embedder, left, right, compare.find_threshold(embedder, within, far, branch), branch)


@overload
def classify(  # type: ignore[overload-overlap]  # a str is one image, though it is a sequence of str
    image: ImageSource,
    support: str | os.PathLike[str] | Mapping[str, Sequence[str | os.PathLike[str]]],
    *,
    encoder: EncoderSource = ...,
    by: ClassifyBy = ...,
    sketch: bool = ...,
    sketched_support: bool = ...,
) -> Ranking: ...


@overload
def classify(
    image: Sequence[ImageSource],
    support: str | os.PathLike[str] | Mapping[str, Sequence[str | os.PathLike[str]]],
    *,
    encoder: EncoderSource = ...,
    by: ClassifyBy = ...,
    sketch: bool = ...,
    sketched_support: bool = ...,
) -> list[Ranking]: ...


def classify(
    image: ImageSource | Sequence[ImageSource],
    support: str | os.PathLike[str] | Mapping[str, Sequence[str | os.PathLike[str]]],
    *,
    encoder: EncoderSource = encoders.DEFAULT,
    by: ClassifyBy = "example",
    sketch: bool = False,
    sketched_support: bool = False,
) -> Ranking | list[Ranking]:
    """Classify images from a few labelled examples per class (k-way n-shot); see `lookalike.compare.classify`.

    Args:
        image: an image, or a list of them.
        support: a folder with a folder of examples for each class; or a mapping of class to image files. Examples that
            cannot be used are skipped.
        encoder: a name, a folder, ``hf://org/repo``, or a loaded encoder. It need not have seen the classes.
        by: compare with every example, or with the mean of a class's examples (``"prototype"``).
        sketch: the images are sketches.
        sketched_support: the examples are sketches.

    Returns:
        The classes, nearest first; a list of rankings if a list was given.

    Raises:
        ImageError, NotFoundError: an image cannot be used.
        DataError: there are no classes, or one has no usable example.

    Example:
        >>> la.classify("mug.jpg", "photos").label
        'mug'
    """
    embedder = _to_embedder(encoder)
    branches = to_branch(sketch), to_branch(sketched_support)
    examples = (
        _to_examples(support)
        if isinstance(support, Mapping)
        else compare.find_examples(to_path(support), drawings=sketched_support)
    )
    queries, single = to_batch(image)
    answers = compare.classify(embedder, queries, examples, by=by, branches=branches).answers
    return answers[0] if single else list(answers)


def join(
    left: Collection | str | os.PathLike[str],
    right: Collection | str | os.PathLike[str] | None = None,
    *,
    k: int | None = None,
    within: Within | None = None,
    far: float | None = None,
    approximate: bool = False,
) -> JoinPairs:
    """Pair the items of two collections, or of one, that look alike; see `Collection.join`.

    Args:
        left: a collection, or its folder.
        right: another collection; without it the left one is joined with itself.
        k: pair each item on the left with its k nearest on the right.
        within: pair all items in this range of distances, as ``0.1`` or ``"90%"``.
        far: pair all items within the distance of this false accept rate.
        approximate: use an index; its recall is measured.

    Raises:
        NotFoundError: there is no such collection.
        MismatchError: the collections have different encoders or metrics.
        UsageError: not exactly one of k, within and far is given, or its value is invalid.

    Example:
        >>> pairs = la.join("shop", within="60%")
        >>> for pair in pairs:
        ...     assert pair.distance <= 0.67
    """
    other = None if right is None else _to_collection(right)
    return _to_collection(left).join(other, k=k, within=within, far=far, approximate=approximate)


def evaluate(
    encoder: EncoderSource | Collection,
    data: EvaluationData | str | os.PathLike[str],
    options: EvaluationOptions = DEFAULT_EVALUATION,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure retrieval, verification and few-shot classification on labelled images.

    Args:
        encoder: a name, a folder, ``hf://org/repo``, a loaded encoder, or a collection, whose encoder is measured.
        data: a folder with a folder for each class, a CSV file, an ``.npz`` file, or `EvaluationData`.
        options: what to measure, and how much of it.
        progress: receives each stage.

    Returns:
        Scores with confidence intervals; ``print`` shows them, and ``to_dict()`` converts them to what JSON can hold.

    Raises:
        NotFoundError, DataError: the data does not exist or is invalid.
        UsageError: an option is invalid, or the data has sketches and the encoder has no sketch branch.

    Example:
        >>> result = la.evaluate("toyshop", "photos")
        >>> result.retrieval.by_class.top_1 > 0.8
        True
    """
    if not isinstance(options, EvaluationOptions):
        raise UsageError(f"options is an EvaluationOptions of lookalike.evaluation.protocols, not {options!r}.")
    return evaluation.evaluate(_to_embedder(encoder), data, options, progress)


def calibrate(
    encoder: EncoderSource | Collection,
    data: str | os.PathLike[str] | None = None,
    *,
    to: str | os.PathLike[str] | None = None,
    split: str | None = None,
    copies: bool = False,
    progress: Progress = SILENT,
) -> CalibrationResult:
    """Calibrate an encoder on held-out images, and write the calibration into the encoder's card.

    Afterwards hits and verdicts have a probability, `verify` has a threshold, and ``far=`` works.

    Args:
        encoder: a name, a folder, ``hf://org/repo``, a loaded encoder, or a collection, whose copy of its encoder is
            calibrated.
        data: labelled images that the encoder was not trained on: a folder with a folder for each class, a CSV file or an
            ``.npz`` file; with ``copies`` any folder of images. A collection's own labelled items by default.
        to: a new folder for a calibrated copy. An encoder that others share, bundled or downloaded, needs it.
        split: the split of the data to use; required if the data has splits.
        copies: calibrate on the images of the folder ``data`` and changed copies of each, so that duplicates are found;
            labels are not needed.
        progress: receives the stage ``"embedding"``.

    Returns:
        The calibration and the error rates of its threshold; ``print`` shows them.

    Raises:
        DataError: there are too few pairs of the same thing, or of different things.
        UsageError: data is missing, or the encoder is shared and ``to`` is not given.
        AlreadyExistsError, StorageError: the copy cannot be written.

    Example:
        >>> result = la.calibrate("toyshop", "photos", to="calibrated")
        >>> la.verify("mug.jpg", "other.jpg", encoder="calibrated").same
        True
    """
    if _names_collection(encoder):
        with Collection.open(to_path(encoder)) as collection:
            return calibrate(collection, data, to=to, split=split, copies=copies, progress=progress)
    embedder, target = _to_embedder(encoder), None if to is None else to_path(to)
    calibration.check_destination(embedder.encoder, target)
    if copies:
        if data is None:
            raise UsageError("To calibrate on copies, give a folder of different images: data=.")
        if split is not None:
            raise UsageError("copies=True takes all images of the folder; leave out split=.")
        vectors = CalibrationData.of_copies(embedder, data, progress=progress)
    elif data is not None:
        vectors = CalibrationData.open(embedder, data, split, progress)
    elif isinstance(encoder, Collection):
        labelled = encoder.labelled()
        vectors = CalibrationData(labelled, f"{len(labelled):,} labelled items of “{encoder.name}”")
    else:
        raise UsageError("To calibrate an encoder, give labelled images: data=, a folder with a folder for each class.")
    result = calibration.calibrate(embedder, vectors)
    calibration.save(embedder.encoder, result.calibration, target)
    if isinstance(encoder, Collection) and target is None:
        encoder.reopen()
    return result


def train(
    recipe: str | os.PathLike[str] | Source,
    to: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    progress: Progress = SILENT,
    *,
    start: str | os.PathLike[str] | None = None,
    whole: bool = False,
) -> Encoder:
    """Train an encoder by a recipe, or from another encoder and labelled images.

    `lookalike.learn.train` has stages and several devices; `train_sketches` needs only a collection.

    Args:
        recipe: a YAML file; with ``start`` labelled images: a folder with a folder for each class, a CSV file, an ``.npz``
            file, or a source of `lookalike.datasets`, such as ``table_of_folder("labels.csv", "photos")``.
        to: the run's folder, which must not exist or be empty.
        overrides: values that replace those of the recipe, as ``"train.epochs=3"``.
        progress: receives each batch, and the scores of each epoch.
        start: fit a head to this encoder, without a recipe: a bundled name, a folder, or ``hf://org/repo``. With ``whole``
            a run, or a network with weights of ImageNet, as ``"efficientnet_lite0"``.
        whole: train the network of ``start``, too.

    Returns:
        The encoder; the run's folder has it too, and the recipe that was used. The figures in ``card.provenance`` are those
        of held-out images; those of a head have its gain, as ``validation.map`` and ``validation.map.before``.

    Raises:
        MissingExtraError: the extra ``learn`` is not installed.
        RecipeError: the recipe is invalid or does not suit the data, or the run diverges.
        NotFoundError, DataError: the data does not exist, or cannot be trained on.
        EncoderError: a head cannot be appended to the encoder.
        AlreadyExistsError, StorageError: the folder is not empty, or cannot be written.

    Example:
        >>> encoder = la.train("tiny.yaml", to="runs/tiny", overrides=["train.epochs=1"])
        >>> encoder.card.name
        'tiny'
        >>> encoder = la.train("photos", to="runs/mine", start="toyshop")
        >>> encoder.card.name
        'mine'
    """
    if isinstance(overrides, str):
        raise UsageError(f"overrides is a list of changes, such as [{overrides!r}], not one text.")
    if start is None and (whole or not isinstance(recipe, str | os.PathLike)):
        raise UsageError("To train on labelled images without a recipe, give an encoder to begin from: start=.")
    try:
        # torch takes a second to import, and is an extra.
        from lookalike.learn import recipe as recipes  # noqa: PLC0415
        from lookalike.learn.head_run import train_head  # noqa: PLC0415
        from lookalike.learn.own_labels import recipe_of_images  # noqa: PLC0415
        from lookalike.learn.sketch_run import train_sketches as fit_sketches  # noqa: PLC0415
        from lookalike.learn.train import train as run  # noqa: PLC0415
    except ImportError as e:
        raise MissingExtraError("learn", f"Training ({e})") from e
    folder = to_path(to)
    if start is None:
        read = recipes.read_any(to_path(recipe), overrides)
    else:
        images = infer_source(recipe) if isinstance(recipe, str | os.PathLike) else recipe
        read = recipe_of_images(os.fspath(start), images, folder, overrides, whole=whole)
    if isinstance(read, recipes.HeadRecipe):
        return encoders.load(train_head(read, folder, progress).encoder)
    if isinstance(read, recipes.SketchRecipe):
        return encoders.load(fit_sketches(read, folder, progress).encoder)
    return encoders.load(run(read, folder, progress))


def train_sketches(
    collection: Collection | str | os.PathLike[str],
    to: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    progress: Progress = SILENT,
) -> "SketchRun":
    """Fit the sketch branch of a collection's encoder to the collection's own images; no sketches are needed.

    It draws pseudo-sketches of the images, and says how much more often they find their image. The collection does not
    change: `Collection.reindex` gives it the new encoder, and keeps its vectors.

    Args:
        collection: a collection, or its folder, with at least 50 different images.
        to: the run's folder, which must not exist or be empty. A stopped run resumes with ``lookalike train FOLDER``.
        overrides: values that replace those of the recipe, as ``"images=5000"``.
        progress: receives the stage ``"drawing"``.

    Returns:
        The folder of the new encoder as ``encoder``, and its gains as ``mrr``, ``top_1`` and ``top_10``, each with
        ``before`` and ``after``.

    Raises:
        MissingExtraError: the extra ``learn`` is not installed.
        NotFoundError: the folder holds no collection.
        DataError: the collection has too few images that can be read.
        RecipeError: an override is invalid, or the collection's encoder gives bits.
        EncoderError: no layer can be appended to the encoder.
        AlreadyExistsError, StorageError: the folder is not empty, or cannot be written.

    Example:
        >>> run = la.train_sketches("shop", to="runs/sketches", overrides=["drawings=1"])
        >>> run.images
        64
        >>> if run.mrr.after > run.mrr.before:
        ...     la.open("shop").reindex(run.encoder).embedded
        0
    """
    if isinstance(overrides, str):
        raise UsageError(f"overrides is a list of changes, such as [{overrides!r}], not one text.")
    try:
        from lookalike.learn import sketch_run  # noqa: PLC0415 -- as in `train`
    except ImportError as e:
        raise MissingExtraError("learn", f"Training ({e})") from e
    path = collection.path if isinstance(collection, Collection) else to_path(collection)
    folder = to_path(to)
    recipe = sketch_run.recipe_of_collection(path, folder, overrides)
    return sketch_run.train_sketches(recipe, folder, progress)


def _to_embedder(source: EncoderSource | Collection) -> Embedder:
    if isinstance(source, Collection):
        return source.embedder
    if _names_collection(source):
        return Folder.open(find_folder(to_path(source))).load_embedder()
    return Embedder.of(encoders.load(source))


def _names_collection(source: object) -> bool:
    """Return whether a name is that of a collection, and not of a bundled encoder."""
    named = isinstance(source, str | os.PathLike) and os.fspath(source) not in encoders.bundled()
    return named and is_collection(to_path(source))


def _to_collection(source: Collection | str | os.PathLike[str]) -> Collection:
    return source if isinstance(source, Collection) else Collection.open(source)


def _to_examples(support: Mapping[str, Sequence[str | os.PathLike[str]]]) -> dict[str, list[Path]]:
    to_texts("A class", support)
    for label, paths in support.items():
        if isinstance(paths, str | bytes) or not isinstance(paths, Sequence):
            raise UsageError(f"The examples of the class “{label}” are a list of files, not {type(paths).__name__}.")
    return {label: [to_path(path) for path in paths] for label, paths in support.items()}
