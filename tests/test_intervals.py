"""Intervals of scores: Wilson's, and the bootstrap over classes or images that pairs share."""

import time
from dataclasses import replace

import numpy as np
import pytest

from lookalike.evaluation import intervals, protocols
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.evaluate import evaluate_embeddings
from lookalike.evaluation.intervals import PairDistances, verification_intervals, wilson_interval
from lookalike.evaluation.protocols import EvaluationOptions
from lookalike.evaluation.roc import Roc
from lookalike.evaluation.verification import draw_pairs
from lookalike.metric import Metric


def test_the_wilson_interval_equals_published_values() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def writers(seed: int, classes: int, each: int = 10) -> EmbeddedDataset:
    """Return clouds, one a class, some wider than others, as the signatures of some writers vary more."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 1, 4))
    widths = 0.5 * np.exp(0.4 * rng.normal(size=(classes, 1, 1)))
    vectors = (centres + widths * rng.normal(size=(classes, each, 4))).reshape(-1, 4)
    return EmbeddedDataset(vectors.astype(np.float32), np.repeat(np.arange(classes), each), Metric.EUCLIDEAN)


def pairs_of(data: EmbeddedDataset, count: int, seed: int = 0) -> PairDistances:
    pairs = draw_pairs(data.labels, count, seed)
    return PairDistances(
        pairs.distances(data.embeddings, data.metric), pairs.same, data.labels[pairs.left], data.labels[pairs.right]
    )


def test_a_drawn_class_weights_its_pairs_as_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 7)
    pairs = pairs_of(writers(0, 12), 200)
    pairs = replace(pairs, distances=np.round(pairs.distances, 1))  # with ties
    counts = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), 7)
    (curves,) = intervals._draw(pairs, np.random.default_rng(3))
    accuracy = curves.scores(np.full(7, 1.5, np.float32))
    for draw, drawn in enumerate(counts.tolist()):
        repeats = [
            drawn[left] if left == right else drawn[left] * drawn[right]
            for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
        ]
        distances, same = np.repeat(pairs.distances, repeats), np.repeat(pairs.same, repeats)
        roc = Roc.of_pairs(distances, same)
        found = {name: values[draw] for name, values in accuracy.items()}
        false_accepts, true_accepts = np.mean(distances[~same] <= 1.5), np.mean(distances[same] <= 1.5)
        assert found["auc"] == pytest.approx(roc.auc, abs=1e-5)
        assert found["false_accept_rate"] == pytest.approx(false_accepts, abs=1e-6)
        assert found["false_reject_rate"] == pytest.approx(1 - true_accepts, abs=1e-6)
        assert found["accuracy"] == pytest.approx((1 + true_accepts - false_accepts) / 2, abs=1e-6)
        assert found["precision"] == pytest.approx(true_accepts / (true_accepts + false_accepts), abs=1e-6)
        assert curves.best_thresholds()[draw] == pytest.approx(roc.best_accuracy().threshold)


def test_pairs_of_shared_classes_have_wider_intervals_than_independent_pairs() -> None:
    result = protocols.evaluate_verification(writers(1, 60), EvaluationOptions(pairs=4000))
    low, high = result.intervals["false_accept_rate"]
    assert low <= result.scores["false_accept_rate"] <= high
    independent = wilson_interval(result.scores["false_accept_rate"], 2000)
    assert high - low > 3 * (independent[1] - independent[0])
    assert "a bootstrap over 30 classes" in result.protocol


def test_few_classes_are_given_and_their_images_drawn() -> None:
    result = protocols.evaluate_verification(writers(1, 4, 40), EvaluationOptions(pairs=400))
    assert "a bootstrap over 80 images" in result.protocol
    separate = protocols.evaluate_verification(writers(1, 30), EvaluationOptions(pairs=400), writers(2, 4, 40))
    assert "a bootstrap over 30 classes" in separate.protocol


def test_a_small_set_has_no_interval() -> None:
    result = protocols.evaluate_verification(writers(1, 3, 4), EvaluationOptions(pairs=10))
    assert result.intervals == {}
    assert "bootstrap" not in result.protocol


def test_without_errors_the_interval_counts_classes_and_pairs_of_classes() -> None:
    data = writers(1, 40, 20)
    apart = replace(data, embeddings=data.embeddings + 1000 * data.labels[:, None].astype(np.float32))
    found = protocols.evaluate_verification(apart, EvaluationOptions(pairs=4000)).intervals
    assert found["false_accept_rate"] == pytest.approx(wilson_interval(0, 190))  # 20 classes
    assert found["false_reject_rate"] == pytest.approx(wilson_interval(0, 20))
    assert found["auc"] == pytest.approx(wilson_interval(1, 20))


def test_the_same_seed_gives_the_same_intervals_and_the_table_shows_them() -> None:
    one, two = (evaluate_embeddings(writers(1, 60), EvaluationOptions(pairs=400, episodes=2)) for _ in range(2))
    assert one.verification is not None
    assert two.verification is not None
    assert one.verification.intervals == two.verification.intervals
    shown = {score.name: score.interval for score in one.scores}
    assert shown["FAR"] == one.verification.intervals["false_accept_rate"]
    assert all(shown[name] for name in ("accuracy", "precision", "recall", "F1", "AUC", "EER", "FRR", "threshold"))
    assert one.to_dict()["verification"]["intervals"]["auc"] == pytest.approx(shown["AUC"])


def test_the_default_number_of_pairs_takes_about_a_second() -> None:
    judged, chosen = pairs_of(writers(1, 100, 25), 20_000), pairs_of(writers(2, 100, 25), 20_000)
    start = time.process_time()
    verification_intervals(judged, chosen, {"auc": 0.9}, 0)
    assert time.process_time() - start < 10  # 1 s on an idle core


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "each"), [(50, 10), (200, 5)])
def test_intervals_cover_the_truth_in_about_95_of_100_simulations(classes: int, each: int) -> None:
    population = pairs_of(writers(99, 4000, each), 400_000)
    roc = Roc.of_pairs(population.distances, population.same)
    best = roc.best_accuracy()
    truth = {"false_accept_rate": best.false_accept_rate, "false_reject_rate": best.false_reject_rate, "auc": roc.auc}
    truth |= {"accuracy": best.accuracy, "eer": roc.eer, "threshold": best.threshold}
    covered: dict[str, list[bool]] = {name: [] for name in (*truth, "independent")}
    for seed in range(100):
        result = protocols.evaluate_verification(writers(seed, classes, each), EvaluationOptions(pairs=2000, seed=seed))
        for name, value in truth.items():
            low, high = result.intervals[name]
            covered[name].append(low <= value <= high)
        low, high = wilson_interval(result.scores["false_accept_rate"], 1000)
        covered["independent"].append(low <= truth["false_accept_rate"] <= high)
    shares = {name: float(np.mean(hits)) for name, hits in covered.items()}
    assert shares.pop("independent") < 0.75, shares  # as if pairs were independent
    assert min(shares.values()) >= 0.88, shares
