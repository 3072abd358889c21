"""Calibrations against scikit-learn and plain counts, and their storage in a card."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from sklearn.isotonic import IsotonicRegression

from lookalike import compare, sample
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder, bundled
from lookalike.encoders import card as cards
from lookalike.encoders.card import Calibration, Card
from lookalike.errors import AlreadyExistsError, DataError, MismatchError, NotFoundError, StorageError, UsageError
from lookalike.evaluation import copies
from lookalike.evaluation.calibration import MAX_KNOTS, CalibrationData, calibrate, draw, fit, save
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric

FITTED = Calibration(
    distance_at_false_accept_rate={"0.1": 0.5},
    metric=Metric.EUCLIDEAN,
    threshold=0.4,
    knots=((0.1, 0.9), (0.5, 0.3)),
    genuine=10,
    impostors=100,
    data="ten mugs",
)


@pytest.fixture
def folder(tmp_path: Path, pocket: Path) -> Path:
    return Path(shutil.copytree(pocket, tmp_path / "pocket"))


def random_pairs(genuine: int, impostors: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    distances = np.concatenate([rng.gamma(4, 0.1, genuine), rng.gamma(9, 0.1, impostors)])
    return distances.astype(np.float32), np.arange(genuine + impostors) < genuine


# ---- the pairs


@pytest.mark.parametrize(("images", "expected"), [(40, 10 * 4 * 36 // 2), (2000, 1_000_000)])
def test_all_impostor_pairs_are_drawn_up_to_a_million(images: int, expected: int) -> None:
    labels = np.arange(images) % 10
    pairs = draw(labels, 50, 0)
    assert (pairs.same.sum(), (~pairs.same).sum()) == (50, expected)
    assert len(np.unique(pairs.left * images + pairs.right)) == len(pairs)


# ---- the fit


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40))
def test_the_probability_is_an_isotonic_regression_of_equal_priors(pairs: list[tuple[int, bool]]) -> None:
    distances, same = np.array([d for d, _ in pairs], np.float32), np.array([s for _, s in pairs])
    same[:2] = True, False
    weights = np.where(same, 1 / same.sum(), 1 / (~same).sum())
    expected = IsotonicRegression(increasing=False).fit(distances, same, weights).predict(distances)
    expected = expected.clip(1 / (same.sum() + 2), 1 - 1 / ((~same).sum() + 2))
    assert fit(distances, same, Metric.HAMMING, "").probability(distances) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_curve_of_many_pairs_is_thinned_and_stays_near_the_truth(seed: int) -> None:
    distances, same = random_pairs(5000, 20_000, seed)
    fitted = fit(distances, same, Metric.EUCLIDEAN, "")
    assert 10 < len(fitted.knots) <= MAX_KNOTS
    assert all(a[0] < b[0] and a[1] >= b[1] for a, b in pairwise(fitted.knots))
    probabilities = fitted.probability(distances)
    genuine, impostors = same / same.sum(), ~same / (~same).sum()
    for low in np.arange(0, 1, 0.1):
        rows = (probabilities >= low) & (probabilities < low + 0.1)
        truth = genuine[rows].sum() / (genuine[rows].sum() + impostors[rows].sum())
        assert probabilities[rows].mean() == pytest.approx(truth, abs=0.05)


def test_the_probability_does_not_depend_on_the_share_of_genuine_pairs() -> None:
    at = np.linspace(0.2, 1.2, 9)
    distances, same = random_pairs(3000, 3000)
    rarer = np.concatenate([distances, *[distances[~same]] * 19]), np.concatenate([same, np.zeros(57_000, bool)])
    few, many = fit(distances, same, Metric.EUCLIDEAN, ""), fit(*rarer, Metric.EUCLIDEAN, "")
    assert few.probability(at) == pytest.approx(many.probability(at), abs=1e-3)


def test_probabilities_are_linear_between_knots_and_constant_outside() -> None:
    assert FITTED.probability(np.array([[0, 0.1], [0.3, 0.5], [0.9, 9]])) == pytest.approx(
        np.array([[0.9, 0.9], [0.6, 0.3], [0.3, 0.3]])
    )
    assert float(FITTED.probability(np.array(0.3))) == pytest.approx(0.6)
    with pytest.raises(UsageError, match="lookalike calibrate"):
        Calibration(distance_at_false_accept_rate={}).probability(np.zeros(2))


def test_no_probability_is_0_or_1() -> None:
    fitted = fit(np.array([0.1, 0.9]), np.array([True, False]), Metric.COSINE, "")
    assert fitted.probability(np.array([0.0, 2.0])) == pytest.approx(np.array([2 / 3, 1 / 3]))
    assert fitted.threshold == np.float32(0.1)


@pytest.mark.parametrize(
    ("impostors", "rates"),
    [
        (99, []),
        (100, ["0.1"]),
        (999, ["0.1"]),
        (1000, ["0.1", "0.01"]),
        (9999, ["0.1", "0.01"]),
        (10_000, ["0.1", "0.01", "0.001"]),
        (1_000_000, ["0.1", "0.01", "0.001", "0.0001", "0.00001"]),
    ],
)
def test_only_rates_with_ten_expected_errors_are_stated(impostors: int, rates: list[str]) -> None:
    distances, same = random_pairs(50, impostors)
    fitted = fit(distances, same, Metric.EUCLIDEAN, "the data")
    assert list(fitted.distance_at_false_accept_rate) == rates
    for rate, distance in fitted.distance_at_false_accept_rate.items():
        assert np.mean(distances[~same] <= np.float32(distance)) <= float(rate)
        further = distances[distances > np.float32(distance)].min()
        assert np.mean(distances[~same] <= further) > float(rate)
    assert (fitted.metric, fitted.genuine, fitted.impostors, fitted.data, fitted.prior) == (
        Metric.EUCLIDEAN,
        50,
        impostors,
        "the data",
        0.5,
    )


def test_a_collapsed_encoder_gives_the_probability_of_chance() -> None:
    fitted = fit(np.zeros(2000), np.arange(2000) < 1000, Metric.EUCLIDEAN, "")
    assert fitted.distance_at_false_accept_rate == {}
    assert fitted.knots == ((0.0, 0.5),)


def test_pairs_of_one_kind_or_without_distances_are_refused() -> None:
    with pytest.raises(DataError, match="no pair of the same class"):
        fit(np.ones(3), np.zeros(3, bool), Metric.COSINE, "")
    with pytest.raises(UsageError, match="finite"):
        fit(np.array([0, np.nan]), np.array([True, False]), Metric.COSINE, "")


# ---- the card


def test_a_card_keeps_the_calibration_and_the_fingerprint(folder: Path) -> None:
    before, files = Encoder.open(folder), {f.name for f in folder.iterdir()}
    card = cards.write_calibration(folder, FITTED)
    after = Encoder.open(folder)
    assert card == after.card
    assert after.card == before.card.model_copy(update={"calibrations": (FITTED,)})
    assert after.fingerprint == before.fingerprint
    assert {f.name for f in folder.iterdir()} == files
    fitted = fit(*random_pairs(100, 1000), Metric.EUCLIDEAN, "others")
    cards.write_calibration(folder, fitted)
    assert Card.read(folder).calibrations == (fitted,)


def test_old_cards_and_bundled_ones_still_read(folder: Path) -> None:
    path = folder / "encoder.json"
    old = json.loads(path.read_text(encoding="utf-8")) | {"calibration": {"distance_at_far": {"0.001": 0.4}}}
    path.write_text(json.dumps(old), encoding="utf-8")
    (fitted,) = Card.read(folder).calibrations
    assert fitted == Calibration(distance_at_false_accept_rate={"0.001": 0.4})
    assert all(Card.read(where) for where in bundled().values())


@pytest.mark.parametrize(
    "knots", [((0.1, 0.2), (0.1, 0.1)), ((0.2, 0.2), (0.1, 0.1)), ((0.1, 0.2), (0.2, 0.3)), ((0.1, 1.1),), ((1, -0.1),)]
)
def test_knots_that_are_not_a_falling_probability_are_refused(knots: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValidationError, match="knots"):
        Calibration(distance_at_false_accept_rate={}, knots=knots)


def test_a_calibration_of_bits_is_refused_for_floats(folder: Path) -> None:
    before = (folder / "encoder.json").read_bytes()
    with pytest.raises(MismatchError, match="hamming"):
        cards.write_calibration(folder, FITTED.model_copy(update={"metric": Metric.HAMMING}))
    assert (folder / "encoder.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_reported_and_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((f.name, f.read_bytes()) for f in folder.iterdir())
    # root may write anywhere: let the last step fail.
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(StorageError, match=r"Permission denied.*copy"):
        cards.write_calibration(folder, FITTED)
    assert sorted((f.name, f.read_bytes()) for f in folder.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_reported(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="copy"):
            cards.write_calibration(folder, FITTED)
    finally:
        folder.chmod(0o700)


def test_a_folder_without_an_encoder_cannot_be_calibrated(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"encoder\.json"):
        cards.write_calibration(tmp_path, FITTED)


# ---- calibration of an embedder


@pytest.fixture
def embedder(pocket: Path) -> Embedder:
    return Embedder.of(Encoder.open(pocket))


def blobs(spread: float, seed: int = 0) -> CalibrationData:
    """Return ten classes of twenty points around distant centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(10, 8))
    labels = np.repeat(np.arange(10), 20)
    vectors = (centres[labels] + spread * rng.normal(size=(200, 8))).astype(np.float32)
    return CalibrationData(LabelledVectors(vectors, labels.astype(str).tolist()), "blobs")


def test_separable_classes_calibrate_to_certainty(embedder: Embedder) -> None:
    result = calibrate(embedder, blobs(0.01), pairs=1000)
    assert (result.auc, result.requested) == (1, 1000)
    assert (result.calibration.genuine, result.calibration.impostors) == (1000, 10 * 20 * 9 * 20 // 2)
    assert result.accuracy > 0.99  # the threshold is the largest genuine distance of one half
    assert sum(map(sum, result.confusion.matrix)) == 19_000
    assert result.calibration.probability(np.asarray([0.0, 0.05, 2.0])).round(2).tolist() == [1, 1, 0]
    assert (result.calibration.metric, result.calibration.data) == (Metric.EUCLIDEAN, "blobs")
    assert calibrate(embedder, blobs(0.01), pairs=1000) == result
    assert "Best threshold" in str(result)
    assert result.to_dict()["calibration"]["data"] == "blobs"


def test_the_error_rates_of_a_threshold_are_of_pairs_that_did_not_choose_it(embedder: Embedder) -> None:
    chance = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 20)).astype(str).tolist()
    data = CalibrationData(LabelledVectors(blobs(1.0).vectors.vectors, chance), "")
    results = [calibrate(embedder, data, pairs=100, seed=seed) for seed in range(20)]
    # With random labels, a threshold that was judged on its own pairs would always beat chance.
    assert min(result.accuracy for result in results) < 0.5
    assert np.mean([result.accuracy for result in results]) == pytest.approx(0.5, abs=0.04)


def test_too_few_pairs_are_refused(embedder: Embedder) -> None:
    data = blobs(0.5)
    few = LabelledVectors(data.vectors.vectors[:22], [*data.vectors.labels[:19], "a", "b", "c"])
    with pytest.raises(DataError, match="at least 10"):
        calibrate(embedder, CalibrationData(few, ""), pairs=8)
    result = calibrate(embedder, data, pairs=10**6)
    assert result.requested == 10**6
    assert result.calibration.genuine == 10 * 20 * 19 // 2
    assert "uses 1,900 pairs of the same class, not 1,000,000, and 18,000 of different classes" in str(result.warning)


def test_a_calibration_is_saved_into_the_encoder_or_into_a_new_copy(folder: Path, tmp_path: Path) -> None:
    encoder = Encoder.open(folder)
    assert save(encoder, FITTED, tmp_path / "copy") == tmp_path / "copy"
    assert Card.read(tmp_path / "copy").calibrations == (FITTED,)
    assert Card.read(folder).calibrations != (FITTED,)
    assert save(encoder, FITTED) == folder
    assert Card.read(folder).calibrations == (FITTED,)
    with pytest.raises(AlreadyExistsError):
        save(encoder, FITTED, tmp_path / "copy")
    with pytest.raises(UsageError, match="shared"):
        save(Encoder.open(bundled()["toyshop"]), FITTED)


# ---- copies


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i, product in enumerate(sample.catalogue(count, 3)):
        product.photo(96).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("name", copies.CHANGES)
@pytest.mark.parametrize("size", [(1, 1), (2, 40), (64, 48)])
def test_each_change_makes_another_image_reproducibly(name: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    changed = [copies.CHANGES[name](Image.fromarray(pixels), np.random.default_rng(1)) for _ in range(2)]
    assert changed[0].mode == "RGB"
    assert changed[0].tobytes() == changed[1].tobytes()
    assert min(size) <= 2 or changed[0].tobytes() != pixels.tobytes()


def test_copies_are_calibrated_without_labels_beside_classes(folder: Path, tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", 20)
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff not a JPEG")
    cards.write_calibration(folder, FITTED)
    embedder = Embedder.of(Encoder.open(folder))
    data = CalibrationData.of_copies(embedder, images)
    assert len(data.failures) == 1
    assert "broken.jpg" in data.failures[0]
    result = calibrate(embedder, data)
    assert (result.calibration.kind, result.calibration.genuine) == ("copies", 20 * 3)
    assert result.auc > 0.8
    assert "uses 60 pairs of copies, not 20,000, and 1,710 of different images" in str(result.warning)
    save(embedder.encoder, result.calibration)
    both = Embedder.of(Encoder.open(folder))
    assert both.calibration() == FITTED
    assert both.calibration(prefer="copies") == result.calibration
    again = CalibrationData.of_copies(embedder, images)
    assert (again.vectors.vectors == data.vectors.vectors).all()
    with pytest.raises(DataError, match="only one image"):
        CalibrationData.of_copies(embedder, photos(tmp_path / "one", 1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        CalibrationData.of_copies(embedder, tmp_path / "empty")


def test_an_encoder_of_copies_says_copy_and_gives_no_probability_of_a_class(folder: Path, tmp_path: Path) -> None:
    cards.write_calibration(folder, FITTED.model_copy(update={"kind": "copies"}))
    embedder = Embedder.of(Encoder.open(folder))
    image = photos(tmp_path / "photos", 1) / "0.png"
    verdict = compare.verify(embedder, image, image, compare.find_threshold(embedder))
    assert (verdict.calibrated_on, verdict.same) == ("copies", True)
    assert str(verdict).startswith("a copy: distance 0")
    assert "probably a copy: 90%" in str(verdict)
    vector = embedder.embed([image])
    support = LabelledVectors(vector, ["mug"])
    (ranking,) = compare.rank_classes(embedder, vector, support)
    assert ranking[0].probability is None
