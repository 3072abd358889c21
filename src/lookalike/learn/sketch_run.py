"""A run that fits the sketch branch of a collection's encoder to the collection's own images, by pseudo-sketches of them.

The vectors of the photos are in the collection and stay. Sketches get a linear correction after the network. If the encoder has no
sketch branch, that is its photo network, which sees drawings as they are, or shaded as solid things if held-out images say so.
"""

import errno
import hashlib
import json
import platform
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import onnx

from lookalike import atomic, images, locks
from lookalike.encoders import Card, Encoder
from lookalike.encoders.card import Provenance
from lookalike.encoders.network import one_line
from lookalike.errors import (
    DataError,
    EncoderError,
    ImageError,
    MismatchError,
    NotFoundError,
    RecipeError,
    StorageError,
    reason_of,
)
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.folder import Folder, find_folder
from lookalike.learn import shaded_branch
from lookalike.learn.agreement import save_network
from lookalike.learn.heads import onnx_graph
from lookalike.learn.heads.correction import Correction, fit_correction
from lookalike.learn.heads.features import reduce_output, widen_output
from lookalike.learn.heads.scores import Gain, measure_gain
from lookalike.learn.pseudo_sketches import pseudo_sketch
from lookalike.learn.recipe import PseudoSketchStyle, SketchRecipe, parse_sketches, to_recipe_name
from lookalike.learn.recipe.sketch_recipe import MIN_IMAGES
from lookalike.learn.run_folder import ENCODER, RECIPE, RunFolder
from lookalike.metric import Metric
from lookalike.parallel import prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.query import Branch
from lookalike.shapes import Bool, Float32, Float64, Int64, UInt8
from lookalike.stores import Item
from lookalike.tables import plural

_RESULT = "result.json"
_PARTS = "drawings"
_LOCK = "lock"
_PART = 16

# Sides of the images that are drawn: of smaller ones, strokes merge.
_DRAWN = 160

_PAPER = 255

# Reasons that are shown, of those why images cannot be read.
_SHOWN = 5

# The largest difference of a number of an embedding of length 1 between ONNX Runtime and NumPy.
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class SketchRun:
    """The result of fitting a sketch branch.

    Attributes:
        encoder: the folder of the encoder.
        collection: the folder of the collection.
        base: the name of its encoder.
        images: number of images that the branch was fitted to.
        held_out: number of images that measured the gain.
        mrr: mean of 1 / rank of a pseudo-sketch's own image among the held-out images.
        top_1: share of pseudo-sketches whose own image is the first.
        top_10: share of pseudo-sketches whose own image is among the first ten.
        seconds: of this command.
    """

    encoder: Path
    collection: Path
    base: str
    images: int
    held_out: int
    mrr: Gain
    top_1: Gain
    top_10: Gain
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self) | {
            "encoder": str(self.encoder),
            "collection": str(self.collection),
            "seconds": round(self.seconds, 1),
        }


def recipe_of_collection(collection: Path, to: Path | None = None, overrides: Sequence[str] = ()) -> SketchRecipe:
    """Make the recipe that fits a sketch branch to a collection.

    Args:
        collection: its folder; the suffix may be left out.
        to: the run's folder, after which the new encoder is named; after the collection by default.
        overrides: of values of the recipe, as ``"images=5000"``.

    Raises:
        RecipeError: an override is invalid.
    """
    own = to.resolve().name if to else f"{find_folder(collection).stem}-sketches"
    return parse_sketches({"name": to_recipe_name(own, "sketches"), "sketches_for": str(collection)}, overrides)


def train_sketches(recipe: SketchRecipe, folder: Path, progress: Progress = SILENT) -> SketchRun:
    """Fit a sketch branch to the images of a collection, and measure what it gains.

    The collection is only read: `lookalike.collection.Collection.reindex` gives it the new encoder, and keeps its vectors.

    Args:
        recipe: the collection, and how much of it.
        folder: of the run, which must be empty or not exist. It gets ``recipe.yaml``, ``result.json`` and ``encoder/``.
        progress: receives the stage ``"drawing"``.

    Raises:
        AlreadyExistsError, StorageError: the folder is not empty, or cannot be written.
        BusyError: another process goes on with this run.
        DataError: the collection has too few images that can be read, or all have the same vector.
        MismatchError: the recipe names the fingerprint of another encoder.
        NotFoundError: there is no collection.
        RecipeError: the collection's encoder gives bits.
        EncoderError: no correction can be appended to its network.
    """
    RunFolder(folder).check_new()
    source = _Source.open(recipe)
    source.check_files()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(folder / RECIPE, source.recipe.absolute().to_yaml())
    except OSError as e:
        raise _not_written(folder, e) from e
    return _run(source, folder, progress)


def resume_sketches(recipe: SketchRecipe, folder: Path, progress: Progress = SILENT) -> SketchRun:
    """Resume a run that was stopped, with the drawings that it had made; arguments and errors as for `train_sketches`."""
    try:
        source = _Source.open(recipe)
    except MismatchError as e:
        if (folder / _RESULT).exists():
            raise MismatchError(
                f"The run in {folder} is finished, and {recipe.sketches_for} has another encoder since, so there is nothing to resume. To"
                f" follow that encoder, begin another run: lookalike train --sketches-for {quote(recipe.sketches_for)} --to DIR"
            ) from e
        raise
    return _run(source, folder, progress)


def _run(source: "_Source", folder: Path, progress: Progress) -> SketchRun:
    start = time.monotonic()
    recipe = source.recipe
    try:
        # Another process that went on with the run would remove its files.
        busy = f"Another process is training {folder}. Wait for it, or stop it first."
        alone = locks.exclusive(folder / _LOCK, timeout=0, busy=busy)
        with alone, _Extractor.making(source, folder / "features") as extractor:
            drawn = _draw_all(source, extractor, folder / _PARTS, progress)
            rows = np.repeat(np.arange(len(drawn.photos)), recipe.drawings)
            held_out = _hold_out(len(drawn.photos), recipe)
            gains = [_gains(drawn, view, rows, held_out, source) for view in drawn.views]
            best = int(np.argmax([mrr.after for mrr, *_ in gains]))
            features, embeddings = drawn.views[best]
            run = SketchRun(
                folder / ENCODER,
                source.folder.path,
                source.encoder.card.name,
                len(drawn.photos),
                int(held_out.sum()),
                *gains[best],
                seconds=time.monotonic() - start,
            )
            final = fit_correction(features, embeddings, rows, drawn.photos, centred=source.branch == "photo")
            _write_encoder(run, source, final, extractor.views[best])
        atomic.write_text(folder / _RESULT, json.dumps(run.to_dict(), indent=2) + "\n")
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
        (folder / _LOCK).unlink(missing_ok=True)
    except OSError as e:
        raise _not_written(folder, e) from e
    return run


def _hold_out(count: int, recipe: SketchRecipe) -> Bool[np.ndarray, " n"]:
    held_out = np.zeros(count, bool)
    held_out[np.random.default_rng(recipe.seed).permutation(count)[: max(2, round(recipe.held_out * count))]] = True
    return held_out


def _not_written(folder: Path, error: OSError) -> StorageError:
    advice = "Choose another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = f"Free some space, and resume the run: lookalike train {quote(str(folder))}"
    return StorageError(f"The run in {folder} cannot be written: {reason_of(error)}. {advice}.")


# ---- the collection


@dataclass(frozen=True, eq=False)
class _Source:
    """The images of a collection, and their vectors.

    Attributes:
        recipe: with the fingerprint of the encoder.
        folder: of the collection.
        encoder: of the collection.
        items: those to learn from, each with another content.
        vectors: of the items; None if they are codes, which are not embeddings.
    """

    recipe: SketchRecipe
    folder: Folder
    encoder: Encoder
    items: Sequence[Item]
    vectors: Float32[np.ndarray, "n d"] | None

    @classmethod
    def open(cls, recipe: SketchRecipe) -> "_Source":
        """Open a collection, and draw images.

        Raises:
            DataError, MismatchError, RecipeError: see `train_sketches`.
        """
        folder = Folder.open(find_folder(Path(recipe.sketches_for)))
        encoder = folder.load_embedder().encoder
        if encoder.card.output == "bits":
            raise RecipeError(
                f"“{encoder.card.name}”, the encoder of {folder.path}, gives bits, which no sketch branch can be fitted to. Use"
                " a collection of an encoder of floats."
            )
        if recipe.fingerprint not in (None, encoder.fingerprint):
            raise MismatchError(
                f"{folder.path} has another encoder than when this run began. Begin another run: lookalike train --sketches-for"
                f" {folder.path} --to DIR"
            )
        with closing(folder.open_store()) as store:
            different = {item.sha256 or item.id: item for item in store.scan()}
            items = [different[key] for key in sorted(different)]
            order = np.random.default_rng(recipe.seed).permutation(len(items))[: recipe.images]
            items = [items[i] for i in np.sort(order).tolist()]
            is_raw = folder.manifest.codec == "none"
            vectors = store.vectors([item.id for item in items]) if is_raw and items else None
        _check_count(len(items), folder.path)
        if vectors is not None and not (vectors != vectors[0]).any():
            raise DataError(
                f"All {len(items):,} images of {folder.path} have the same vector, so no sketch can tell them apart. Index images that"
                " differ."
            )
        recipe = recipe.model_copy(update={"fingerprint": encoder.fingerprint})
        return cls(recipe, folder, encoder, items, vectors)

    def check_files(self) -> None:
        """Check that enough files exist, before the run writes anything.

        Raises:
            DataError: there are too few.
        """
        missing = [item.uri for item in self.items if not self._has_file(item)]
        failures = [f"There is no file {uri!r}." for uri in missing]
        _check_count(len(self.items) - len(missing), self.folder.path, failures)

    def _has_file(self, item: Item) -> bool:
        try:
            return self.folder.file(item).is_file()
        except (NotFoundError, OSError):
            return False

    @property
    def metric(self) -> Metric:
        """The metric of the embeddings."""
        return self.encoder.card.metric if self.vectors is None else self.folder.manifest.metric

    @property
    def branch(self) -> Branch:
        """The branch of the encoder that reads sketches until now."""
        return "sketch" if "sketch" in self.encoder.card.branches else "photo"


def _check_count(count: int, collection: Path, failures: Sequence[str] = ()) -> None:
    if count < MIN_IMAGES:
        advice = "Index more images."
        if failures:
            advice = f"{plural(len(failures), 'other')} cannot be read, the first of them: {failures[0]}"
        raise DataError(
            f"{collection} has {plural(count, 'different image')} that can be read, and at least {MIN_IMAGES} are needed to learn from."
            f" {advice}"
        )


# ---- drawings


_FeaturesAndEmbeddings = tuple[Float32[np.ndarray, "m f"], Float32[np.ndarray, "m d"]]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Embeddings of the images that can be read, and features and embeddings of their drawings by each view, image by image."""

    photos: Float32[np.ndarray, "n d"]
    views: Sequence[_FeaturesAndEmbeddings]


def _draw_all(source: _Source, extractor: "_Extractor", parts: Path, progress: Progress) -> _Drawn:
    """Draw all images and embed the drawings, in parts that are kept on disk until the run ends.

    Raises:
        DataError: too few images can be read.
    """
    parts.mkdir(exist_ok=True)
    starts = range(0, len(source.items), _PART)
    photos, numbers, failures, done = [], [], list[str](), 0
    work = (slice(start, start + _PART) for start in starts)
    with closing(prefetch_map(lambda part: _draw_part(source, extractor, parts, part), work)) as results:
        for part in results:
            photos.append(part.photos)
            numbers.append(part.numbers)
            failures += part.failures
            done += len(part.photos) + len(part.failures)
            progress.advance("drawing", done, len(source.items))
    for failure in failures[:_SHOWN]:
        progress.note(f"left out: {failure}")
    if len(failures) > _SHOWN:
        progress.note(f"left out: {len(failures) - _SHOWN:,} more")
    _check_count(len(source.items) - len(failures), source.folder.path, failures)
    return _Drawn(np.concatenate(photos), extractor.split(np.concatenate(numbers)))


@dataclass(frozen=True, eq=False)
class _Part:
    """Embeddings of some images, what the extractor says of each drawing in one row, and why images cannot be read."""

    photos: Float32[np.ndarray, "n d"]
    numbers: Float32[np.ndarray, "m numbers"]
    failures: tuple[str, ...]


def _draw_part(source: _Source, extractor: "_Extractor", parts: Path, part: slice) -> _Part:
    items = source.items[part]
    key = hashlib.sha256(json.dumps([[item.id, item.sha256] for item in items]).encode()).hexdigest()
    path = parts / f"{key[:32]}.npz"
    d, numbers = source.encoder.card.dimension, extractor.numbers
    if (known := _read_part(path, (len(items), d), (len(items) * source.recipe.drawings, numbers))) is not None:
        return known
    photos, drawings, failures = list[np.ndarray](), list[np.ndarray](), list[str]()
    for row, item in enumerate(items, part.start):
        try:
            content = _read(source, item)
            made = list(_drawings(source, content, item.uri, row))
            photos.append(_photo(source, content, row))
        except (ImageError, NotFoundError, StorageError) as e:
            failures.append(str(e))
        else:
            drawings += made
    result = _Part(
        np.stack(photos) if photos else np.empty((0, d), np.float32),
        extractor.embed(np.stack(drawings)) if drawings else np.empty((0, numbers), np.float32),
        tuple(failures),
    )
    if not failures:  # a file may be back when the run resumes
        with atomic.atomic_write(path) as new, new.open("wb") as file:
            np.savez(file, photos=result.photos, numbers=result.numbers)
    return result


def _read_part(path: Path, photos: tuple[int, int], numbers: tuple[int, int]) -> _Part | None:
    """Read the part of an earlier run with arrays of these shapes; None if there is none, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            part = _Part(arrays["photos"], arrays["numbers"], ())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = part.photos.shape == photos and part.numbers.shape == numbers
    return part if fits and part.photos.dtype == part.numbers.dtype == np.float32 else None


def _read(source: _Source, item: Item) -> bytes:
    """Read the file of an item.

    Raises:
        ImageError, NotFoundError, StorageError: it cannot be read, or has another content than the one that was indexed.
    """
    path = source.folder.file(item)
    content = images.read_bytes(path)
    if item.sha256 and images.fingerprint(content) != item.sha256:
        raise ImageError(f"{str(path)!r} has changed since it was indexed. Index it again.")
    return content


def _photo(source: _Source, content: bytes, row: int) -> Float32[np.ndarray, " d"]:
    """Return the embedding of an image: that of the collection, unless it has codes."""
    if source.vectors is not None:
        return np.asarray(source.vectors[row])
    given = source.encoder.card.input
    fitted = images.load(content, given.side, given.fitting)
    (vector,) = source.encoder.embed(fitted[None])
    return np.asarray(vector)


def _drawings(source: _Source, content: bytes, uri: str, row: int) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """Draw an image several times on white paper, and fit the drawings to the network's input, like sketches by people."""
    given = source.encoder.card.input
    image = images.open_image(content, name=repr(uri))
    side = max(_DRAWN, given.size)
    padded = images.load(image, side, "pad")
    width, height = (max(1, round(side * length / max(image.size))) for length in image.size)
    frame = np.s_[(side - height) // 2 : (side + height) // 2, (side - width) // 2 : (side + width) // 2]
    for number in range(source.recipe.drawings):
        paper = np.full_like(padded, _PAPER)
        rng = np.random.default_rng((source.recipe.seed, row, number))
        paper[frame] = pseudo_sketch(padded[frame], PseudoSketchStyle(), rng)
        yield images.load(paper, given.size, given.fitting)


# ---- the gain


def _gains(
    drawn: _Drawn,
    view: _FeaturesAndEmbeddings,
    rows: Int64[np.ndarray, " m"],
    held_out: Bool[np.ndarray, " n"],
    source: _Source,
) -> tuple[Gain, Gain, Gain]:
    """Compare drawings of held-out images as the encoder embeds them, and with a correction that was fitted without them.

    Returns:
        MRR, first and among ten.
    """
    features, embeddings = view
    test, learned = held_out[rows], ~held_out[rows]
    positions = np.cumsum(~held_out) - 1
    shown, known = positions[rows[learned]], drawn.photos[~held_out]
    centred = source.branch == "photo"
    fitted = fit_correction(features[learned], embeddings[learned], shown, known, centred=centred)
    gallery = LabelledVectors(drawn.photos[held_out], np.flatnonzero(held_out))
    metric = source.metric
    before, after = (
        # With one relevant item, average precision is 1 / rank.
        1 / retrieval.evaluate(LabelledVectors(queries, rows[test]), gallery, metric).average_precision
        for queries in (drawn.views[0][1][test], fitted.apply(features[test], embeddings[test]))
    )

    def gain(score: Callable[[Float64[np.ndarray, " q"]], np.ndarray]) -> Gain:
        return measure_gain(score(before), score(after), rows[test], source.recipe.seed)

    return (
        gain(lambda rank: 1 / rank),
        gain(lambda rank: 1.0 * (rank < _AFTER_FIRST)),
        gain(lambda rank: 1.0 * (rank < _AFTER_TEN)),
    )


# Between ranks, since 1 / (1 / rank) is not whole.
_AFTER_FIRST, _AFTER_TEN = 1.5, 10.5


# ---- the encoder


@dataclass(frozen=True, eq=False)
class _View:
    """A network that sees drawings in a certain way, with its features beside the embedding.

    Attributes:
        encoder: an artefact that gives embedding and features of a drawing in one vector.
        features: number of features before the last layers; 0 if the network has none.
        network: gives only the embedding.
    """

    encoder: Encoder
    features: int
    network: onnx.ModelProto

    def split(self, numbers: Float32[np.ndarray, "n numbers"]) -> _FeaturesAndEmbeddings:
        """Return features and embeddings; the embeddings are the features of a network that has no others."""
        dimension = numbers.shape[1] - self.features
        embeddings = numbers[:, :dimension]
        return (numbers[:, dimension:] if self.features else embeddings), embeddings

    def embed(self, drawings: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n numbers"]:
        """Embed drawings that are fitted to the network's input."""
        return np.concatenate([self.encoder.embed(drawings[i : i + _PART]) for i in range(0, len(drawings), _PART)])


@dataclass(frozen=True, eq=False)
class _Extractor:
    """The views of drawings that a correction can follow: as the encoder sees them, and, without a sketch branch, shaded."""

    views: Sequence[_View]

    @classmethod
    @contextmanager
    def making(cls, source: "_Source", folder: Path) -> "Iterator[_Extractor]":
        """Make the artefacts in a folder, which is removed after the block.

        Raises:
            EncoderError: the encoder's network cannot be followed by another layer.
        """
        base = source.encoder
        try:
            network = onnx.load(base.folder / f"{source.branch}.onnx")
            wide, count = widen_output(network, base.card)
            ways = [(wide, reduce_output(network, base.card))]
            if source.branch == "photo":
                size = base.card.input.size
                wide, narrow = (shaded_branch.shade_before(n, base.card, size) for n in ways[0])
                ways.append((wide, narrow))
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as e:
            raise EncoderError(
                f"The network {source.branch}.onnx of “{base.card.name}” cannot be followed by another layer: {one_line(e)}"
            ) from e
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        try:
            yield cls(
                [_View(_as_artefact(w, count, base.card, folder / str(i)), count, n) for i, (w, n) in enumerate(ways)]
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def numbers(self) -> int:
        """Numbers that a drawing gets."""
        return sum(view.encoder.card.dimension for view in self.views)

    def embed(self, drawings: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n numbers"]:
        """Embed drawings by each view."""
        return np.concatenate([view.embed(drawings) for view in self.views], axis=1)

    def split(self, numbers: Float32[np.ndarray, "n numbers"]) -> Sequence[_FeaturesAndEmbeddings]:
        """Return features and embeddings of each view."""
        ends = np.cumsum([view.encoder.card.dimension for view in self.views])[:-1]
        return [view.split(part) for view, part in zip(self.views, np.split(numbers, ends, axis=1), strict=True)]


def _as_artefact(network: onnx.ModelProto, features: int, base: Card, folder: Path) -> Encoder:
    """Write a network of embedding and features as an artefact."""
    folder.mkdir(parents=True)
    save_network(network, folder / "photo.onnx")
    card = Card(
        name="features",
        description="",
        licence=base.licence,
        dimension=features + base.dimension,
        output="float",
        metric=Metric.EUCLIDEAN,
        input=base.input.model_copy(update={"crops": 1}),
        branches=("photo",),
    )
    atomic.write_text(folder / "encoder.json", card.model_dump_json() + "\n")
    return Encoder.open(folder)


def _write_encoder(run: SketchRun, source: _Source, correction: Correction, view: _View) -> None:
    """Write the artefact: the base's own networks, and another sketch branch.

    Raises:
        EncoderError: the network with its correction gives other embeddings than expected.
    """
    base = source.encoder
    new = run.encoder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    card = _card(run, source)
    atomic.write_text(new / "encoder.json", card.model_dump_json(indent=2) + "\n")
    atomic.write_text(new / "README.md", _model_card(run, card, base.card))
    for name in base.files[1:]:
        if name != "sketch.onnx":
            shutil.copyfile(base.folder / name, new / name)
    output = card.network_output.name if card.network_output else None
    corrected = onnx_graph.append_correction(view.network, correction, inner=view.features > 0, output_name=output)
    save_network(corrected, new / "sketch.onnx")
    _check(Encoder.open(new), view, correction)
    shutil.rmtree(run.encoder, ignore_errors=True)
    new.replace(run.encoder)
    atomic.sync(run.encoder.parent)


def _check(encoder: Encoder, view: _View, correction: Correction) -> None:
    """Compare ONNX Runtime with NumPy on noise.

    Raises:
        EncoderError: they disagree.
    """
    size = view.encoder.card.input.size
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    expected = correction.apply(*view.split(view.embed(noise)))
    card = encoder.card.model_copy(update={"input": view.encoder.card.input})  # one crop
    found = Encoder(encoder.folder, card).embed(noise, "sketch")
    difference = float(np.abs(found - expected).max()) / correction.length
    if difference > _TOLERANCE:
        raise EncoderError(
            f"The corrected network sketch.onnx gives other embeddings than expected, by {difference:.4f} of their length."
            " Use a collection of another encoder."
        )


def _card(run: SketchRun, source: _Source) -> Card:
    base, recipe = source.encoder.card, source.recipe
    figures = dict[str, float]()
    for name, gain in (("mrr", run.mrr), ("top_1", run.top_1), ("top_10", run.top_10)):
        figures |= {f"validation.{name}": round(gain.after, 5), f"validation.{name}.before": round(gain.before, 5)}
    tree = recipe.to_tree() | {
        "sketches_for": source.folder.path.name
    }  # people share encoders, and paths are of this machine
    branches = [branch for branch in base.branches if branch != "sketch"]
    return Card.model_validate(
        base.model_dump()
        | {
            "name": recipe.name,
            "scope": base.scope if source.branch == "sketch" else None,
            "description": f"“{base.name}”, whose sketch branch was fitted to {run.images:,} images of “{source.folder.name}” by"
            " pseudo-sketches of them.",
            "branches": [*branches[:1], "sketch", *branches[1:]],
            "provenance": Provenance(
                recipe=tree,
                seed=recipe.seed,
                minutes=round(run.seconds / 60, 2),
                machine=platform.machine(),
                versions={p: version(p) for p in ("lookalike", "numpy", "onnx")},
                images=run.images,
                figures=figures,
                weights=f"the encoder “{base.name}”, fingerprint {recipe.fingerprint}, licence {base.licence}"[:400],
            ).model_dump(),
        }
    )


def _model_card(run: SketchRun, card: Card, base: Card) -> str:
    rows = (("MRR", run.mrr), ("first", run.top_1), ("among the first ten", run.top_10))
    scores = "\n".join(f"| {name} | {gain} |" for name, gain in rows)
    return f"""# {card.name}

{card.description}

How often a pseudo-sketch of one of {run.held_out:,} held-out images finds its image among them:

| | before → after |
|---|---|
{scores}

The photo network is that of “{base.name}”, licence {base.licence}: {" ".join(base.description.split())}

The recipe is in `encoder.json`.
"""
