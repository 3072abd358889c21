"""Losses against their formulas in plain loops, also those of the library; gradients; incomplete batches."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.nn.functional import normalize, softplus

from lookalike.errors import RecipeError
from lookalike.learn import recipe
from lookalike.learn.losses import BinaryCrossEntropyTerm, TripletTerm
from lookalike.learn.losses.targets import SoftLabels, Targets, Teacher
from lookalike.learn.losses.total import Loss

TERMS: TypeAdapter[recipe.LossTerm] = TypeAdapter(recipe.LossTerm)

ALL: list[dict[str, Any]] = [
    {"kind": "triplet", "margin": 0.3, "miner": "all"},
    {"kind": "triplet", "margin": 0.3, "miner": "semihard", "squared": False},
    {"kind": "triplet", "margin": 0.3, "miner": "hard", "squared": False},
    {"kind": "triplet", "margin": 0.3, "miner": "distance"},
    {"kind": "dsh"},
    {"kind": "dtsh"},
    {"kind": "contrastive", "margin": 1.0},
    {"kind": "contrastive", "margin": 1.0, "form": "linear"},
    {"kind": "binary_cross_entropy"},
    {"kind": "binary_cross_entropy", "power": 2},
    {"kind": "cross_entropy"},
    {"kind": "supervised_contrastive"},
    {"kind": "multi_similarity"},
    {"kind": "proxy_anchor"},
]


COMPARISONS = [t for t in ALL if t["kind"] in ("triplet", "dsh", "dtsh", "contrastive", "binary_cross_entropy")]

OF_TRIPLETS = ("triplet", "dsh", "dtsh")


def term(**settings: object) -> recipe.LossTerm:
    return TERMS.validate_python(settings)


def loss(dimension: int = 5, classes: int = 4, **settings: object) -> Loss:
    return Loss((term(**settings),), dimension, classes).double()


def vectors(n: int, *, unit: bool = False, seed: int = 0) -> Tensor:
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(x) if unit else x


def targets(
    labels: Tensor, items: Tensor | None = None, sketch: Tensor | None = None, tuples: list[list[int]] | None = None
) -> Targets:
    n = len(labels)
    return Targets(
        labels=labels,
        items=torch.arange(n) if items is None else items,
        sketch=torch.zeros(n, dtype=torch.bool) if sketch is None else sketch,
        tuples=None if tuples is None else torch.tensor(tuples, dtype=torch.int64),
    )


def value(made: Loss, x: Tensor, known: Targets) -> float:
    total: Tensor
    only: float
    total, (only,) = made(x, known)
    assert float(total.detach()) == pytest.approx(only)
    return only


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def length(v: Tensor) -> float:
    return math.sqrt(sum(float(c) ** 2 for c in v))


def cosines(x: Tensor) -> list[list[float]]:
    return [[float(a @ b) / length(a) / length(b) for b in x] for a in x]


# ---- contrastive


def contrastive(d: float, same: bool, margin: float, form: str) -> float:
    apart = d if same else max(0.0, margin - d)
    return apart if form == "linear" else apart**2 / 2


@pytest.mark.parametrize("form", ["squared", "linear"])
@pytest.mark.parametrize("n", [2, 3, 12, 40])
def test_contrastive_on_a_batch_is_half_the_positive_mean_plus_half_the_negative_mean(form: str, n: int) -> None:
    x, labels = vectors(n), torch.arange(n) % 4
    sides: dict[bool, list[float]] = {True: [], False: []}
    for i, j in itertools.combinations(range(n), 2):
        same = bool(labels[i] == labels[j])
        sides[same].append(contrastive(length(x[i] - x[j]), same, 3.5, form))
    got = value(loss(kind="contrastive", margin=3.5, form=form), x, targets(labels))
    assert got == pytest.approx((mean(sides[True]) + mean(sides[False])) / 2, rel=1e-12)


@pytest.mark.parametrize("form", ["squared", "linear"])
def test_contrastive_on_drawn_pairs_is_their_mean_with_repetitions(form: str) -> None:
    x, labels = vectors(6), torch.tensor([0, 0, 1, 1, 2, 2])
    pairs = [[0, 1], [0, 2], [0, 2], [3, 2], [5, 0]]
    values = [contrastive(length(x[i] - x[j]), bool(labels[i] == labels[j]), 3.5, form) for i, j in pairs]
    got = value(loss(kind="contrastive", margin=3.5, form=form), x, targets(labels, tuples=pairs))
    assert got == pytest.approx(mean(values), rel=1e-12)


def test_a_triplet_is_two_pairs() -> None:
    x, labels = vectors(6), torch.tensor([0, 0, 1, 1, 2, 2])
    made = loss(kind="contrastive", margin=3.5)
    as_triplets = value(made, x, targets(labels, tuples=[[0, 1, 2], [3, 2, 5]]))
    as_pairs = value(made, x, targets(labels, tuples=[[0, 1], [0, 2], [3, 2], [3, 5]]))
    assert as_triplets == pytest.approx(as_pairs, rel=1e-12)


def test_across_pairs_sketches_with_photos_by_item() -> None:
    x, items, sketch = vectors(10), torch.arange(10) // 2, torch.arange(10) % 2 == 1
    sides: dict[bool, list[float]] = {True: [], False: []}
    for i, j in itertools.product(np.flatnonzero(sketch), np.flatnonzero(~sketch)):
        same = bool(items[i] == items[j])
        sides[same].append(contrastive(length(x[i] - x[j]), same, 3.5, "squared"))
    made = loss(kind="contrastive", margin=3.5, target="item", across=True)
    got = value(made, x, targets(items % 2, items, sketch))
    assert got == pytest.approx((mean(sides[True]) + mean(sides[False])) / 2, rel=1e-12)


def test_across_uses_the_tuples_from_a_sketch_to_photos() -> None:
    x, labels, sketch = vectors(4), torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, False, True])
    pairs = loss(kind="contrastive", margin=3.5, across=True)
    got = value(pairs, x, targets(labels, sketch=sketch, tuples=[[0, 1], [1, 0], [0, 3], [1, 2]]))
    assert got == pytest.approx(value(pairs, x, targets(labels, sketch=sketch, tuples=[[0, 1]])))
    triplets = loss(kind="triplet", margin=9.0, across=True)
    got = value(triplets, x, targets(labels, sketch=sketch, tuples=[[0, 1, 2], [0, 1, 3], [3, 2, 1], [1, 0, 2]]))
    alone = value(triplets, x, targets(labels, sketch=sketch, tuples=[[0, 1, 2], [3, 2, 1]]))
    assert got == pytest.approx(alone)


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=50)
def test_all_pairs_of_a_batch_and_the_same_drawn_pairs_differ_only_in_their_weights(n: int, k: int, seed: int) -> None:
    x, labels = vectors(n, seed=seed), torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))
    pairs = [list(p) for p in itertools.combinations(range(n), 2)]
    same = [p for p in pairs if labels[p[0]] == labels[p[1]]]
    other = [p for p in pairs if p not in same]
    made = loss(kind="binary_cross_entropy")
    sides = [value(made, x, targets(labels, tuples=side)) if side else 0.0 for side in (same, other)]
    assert value(made, x, targets(labels)) == pytest.approx(sum(sides) / 2, rel=1e-9)


# ---- binary cross-entropy


def same_or_not(x: Tensor, y: Tensor, same: bool, made: Loss, power: int) -> float:
    learned = dict(made.terms[0].named_parameters())
    weights = softplus(learned["raw_weights"].detach())
    apart = sum(float(w) * abs(float(a - b)) ** power for w, a, b in zip(weights, x, y, strict=True))
    p = 1 / (1 + math.exp(apart - float(learned["bias"].detach())))
    return -math.log(p if same else 1 - p)


@pytest.mark.parametrize("power", [1, 2])
def test_binary_cross_entropy_is_its_formula_on_a_batch_and_on_drawn_pairs(power: int) -> None:
    x, labels = vectors(12), torch.arange(12) % 4
    made = loss(kind="binary_cross_entropy", power=power)
    learned = dict(made.terms[0].named_parameters())
    with torch.no_grad():
        learned["raw_weights"].copy_(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]))
        learned["bias"].fill_(2.5)
    sides: dict[bool, list[float]] = {True: [], False: []}
    for i, j in itertools.combinations(range(12), 2):
        same = bool(labels[i] == labels[j])
        sides[same].append(same_or_not(x[i], x[j], same, made, power))
    want = (mean(sides[True]) + mean(sides[False])) / 2
    assert value(made, x, targets(labels)) == pytest.approx(want, rel=1e-9)
    pairs = [[0, 4], [1, 2], [9, 3]]
    want = mean([same_or_not(x[i], x[j], i % 4 == j % 4, made, power) for i, j in pairs])
    assert value(made, x, targets(labels, tuples=pairs)) == pytest.approx(want, rel=1e-9)


def test_all_dimensions_have_an_initial_weight_of_one() -> None:
    learned = BinaryCrossEntropyTerm(kind="binary_cross_entropy").initial_parameters(7, classes=4)
    assert softplus(learned["raw_weights"]).numpy() == pytest.approx(np.ones(7))


def test_the_parameters_of_a_loss_include_those_of_its_terms() -> None:
    made = Loss(tuple(TERMS.validate_python(t) for t in ALL), 5, 4)
    learned = {name.rpartition(".")[2] for name, _ in made.named_parameters()}
    assert learned == {"raw_weights", "bias", "directions", "proxies"}
    total, _ = made(vectors(12).float(), targets(torch.arange(12) % 4))
    total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


# ---- triplet


def triplet(x: Tensor, a: int, p: int, n: int, margin: float, *, squared: bool) -> float:
    near, far = length(x[a] - x[p]), length(x[a] - x[n])
    return max(0.0, (near**2 - far**2 if squared else near - far) + margin)


@pytest.mark.parametrize("squared", [True, False])
def test_triplet_is_its_formula_over_all_triplets_that_violate_the_margin(squared: bool) -> None:
    x, labels = vectors(12), torch.arange(12) % 3
    values = [
        triplet(x, a, p, n, 0.3, squared=squared)
        for a, p, n in itertools.product(range(12), repeat=3)
        if a != p and labels[a] == labels[p] != labels[n]
    ]
    got = value(loss(kind="triplet", margin=0.3, squared=squared, miner="all"), x, targets(labels))
    assert got == pytest.approx(mean([v for v in values if v > 0]), rel=1e-9)


@pytest.mark.parametrize("squared", [True, False])
def test_triplet_on_drawn_triplets_is_the_mean_of_those_that_violate_the_margin(squared: bool) -> None:
    x, labels = vectors(6), torch.tensor([0, 0, 1, 1, 2, 2])
    given_ones = [[0, 1, 2], [1, 0, 5], [3, 2, 4], [3, 2, 4], [4, 5, 0]]
    values = [triplet(x, a, p, n, 0.3, squared=squared) for a, p, n in given_ones]
    assert 0 < sum(v > 0 for v in values) < 5
    got = value(loss(kind="triplet", margin=0.3, squared=squared), x, targets(labels, tuples=given_ones))
    assert got == pytest.approx(mean([v for v in values if v > 0]), rel=1e-9)


def test_hard_triplets_across_are_the_farthest_photo_of_the_item_and_the_nearest_of_another() -> None:
    x, items, sketch = vectors(12, unit=True), torch.arange(12) // 2, torch.arange(12) % 2 == 1
    values = []
    for a in np.flatnonzero(sketch):
        squares = {p: length(x[a] - x[p]) ** 2 for p in np.flatnonzero(~sketch)}
        near = max(d for p, d in squares.items() if items[p] == items[a])
        far = min(d for p, d in squares.items() if items[p] != items[a])
        values += [near - far + 0.3] if near - far + 0.3 > 0 else []
    made = loss(kind="triplet", margin=0.3, miner="hard", target="item", across=True)
    assert value(made, x, targets(items % 3, items, sketch)) == pytest.approx(mean(values), rel=1e-9)


def test_semihard_triplets_are_the_nearest_positive_and_the_nearest_negative_beyond_it() -> None:
    x, labels = vectors(12, unit=True), torch.arange(12) % 3
    values = []
    for a in range(12):
        far = {i: length(x[a] - x[i]) for i in range(12)}
        p = min((i for i in range(12) if i != a and labels[i] == labels[a]), key=far.__getitem__)
        beyond = [i for i in range(12) if labels[i] != labels[a] and far[i] > far[p]]
        if beyond:
            values.append(triplet(x, a, p, min(beyond, key=far.__getitem__), 0.5, squared=True))
    got = value(loss(kind="triplet", margin=0.5, miner="semihard"), x, targets(labels))
    assert got == pytest.approx(mean([v for v in values if v > 0]), rel=1e-9)


def test_the_distance_weighted_miner_draws_negatives_against_the_density_of_distances() -> None:
    # One anchor with negatives at chosen distances on the sphere; compare how often each is drawn with Wu et al. 2017, section 4.
    distances = [0.3, 0.6, 0.9, 1.2, 1.5]
    angles = torch.tensor([0.0, 0.1, *(2 * math.asin(d / 2) for d in distances)], dtype=torch.float64)
    x = torch.stack([angles.cos(), angles.sin(), *torch.zeros(3, len(angles), dtype=torch.float64)], 1)
    labels = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    distance_weighted = TripletTerm(kind="triplet", margin=0.1, miner="distance")
    torch.manual_seed(0)
    found: list[int] = []
    for _ in range(1000):
        mined = distance_weighted.mine(3 * x, labels)
        assert mined is not None
        anchors, _, negatives = mined
        found += negatives[anchors == 0].tolist()
    weights = []
    for d in distances:
        cut = max(d, 0.5)
        weights.append(
            1 / (cut**3 * (1 - cut**2 / 4)) if d < 1.4 else 0.0
        )  # q(d) ∝ d^(n-2) (1 - d²/4)^((n-3)/2), n = 5
    shares = np.bincount(found, minlength=7)[2:] / len(found)
    assert shares == pytest.approx(np.asarray(weights) / sum(weights), abs=0.03)


# ---- losses of bits


def dsh(u: list[list[float]], margin: float, binary: float) -> float:
    """R4's equation for one triplet."""
    a, p, n = u
    near, far = (sum((x - y) ** 2 for x, y in zip(a, other, strict=True)) for other in (p, n))
    off = sum(abs(abs(x) - 1) for b in u for x in b)
    return (0.5 * max(0.0, margin * len(a) - far + near) + binary * off) / len(a)


def dtsh(u: list[list[float]], margin: float, binary: float) -> float:
    """The paper's equation 7 for one triplet."""
    a, p, n = u
    near, far = (0.5 * sum(x * y for x, y in zip(a, other, strict=True)) for other in (p, n))
    x = near - far - margin * len(a)
    off = sum((math.copysign(1, v) - v) ** 2 for b in u for v in b)
    return (math.log(1 + math.exp(x)) - x + binary * off) / len(a)


@pytest.mark.parametrize(("kind", "formula"), [("dsh", dsh), ("dtsh", dtsh)])
def test_losses_of_bits_are_the_means_of_their_formulas_over_triplets(
    kind: str, formula: Callable[[list[list[float]], float, float], float]
) -> None:
    x, labels, sketch = vectors(9), torch.arange(9) % 3, torch.arange(9) < 4
    whole = [
        [a, p, n]
        for a, p, n in itertools.permutations(range(9), 3)
        if labels[a] == labels[p] and labels[a] != labels[n]
    ]
    across = [t for t in whole if sketch[t[0]] and not sketch[t[1:]].any()]
    made = loss(kind=kind, margin=0.7, binary=0.3)
    for triplets, known in (
        (whole, targets(labels)),
        ([[0, 3, 1], [0, 3, 1], [4, 1, 2]], targets(labels, tuples=[[0, 3, 1], [0, 3, 1], [4, 1, 2]])),
    ):
        want = mean([formula(x[t].tolist(), 0.7, 0.3) for t in triplets])
        assert value(made, x, known) == pytest.approx(want, rel=1e-9)
    got = value(loss(kind=kind, margin=0.7, binary=0.3, across=True), x, targets(labels, sketch=sketch))
    assert got == pytest.approx(mean([formula(x[t].tolist(), 0.7, 0.3) for t in across]), rel=1e-9)


# ---- losses of classes


def test_the_cosine_classifier_is_its_formula() -> None:
    x, labels = vectors(6), torch.tensor([0, 1, 2, 0, 1, 2])
    made = loss(kind="cross_entropy", smoothing=0.1, scale=7, classes=3)
    (directions,) = made.parameters()
    want = 0.0
    for v, y in zip(x, labels, strict=True):
        logits = np.array([7 * float(v @ c) / length(v) / length(c) for c in directions.detach()])
        log_p = logits - np.log(np.exp(logits).sum())
        target = np.full(3, 0.1 / 3)
        target[y] += 0.9
        want -= float((target * log_p).sum()) / 6
    assert value(made, x, targets(labels)) == pytest.approx(want, rel=1e-9)


def test_proxy_anchor_is_equation_4_of_its_paper() -> None:
    x, labels = vectors(7), torch.tensor([0, 0, 1, 1, 1, 3, 3])  # class 2 is not in the batch
    made = loss(kind="proxy_anchor", margin=0.2, alpha=5)
    (proxies,) = (p.detach() for p in made.parameters())
    pull, push = [], []
    for k, proxy in enumerate(proxies):
        s = [float(v @ proxy) / length(v) / length(proxy) for v in x]
        mine = [math.exp(-5 * (c - 0.2)) for c, y in zip(s, labels, strict=True) if y == k]
        others = [math.exp(5 * (c + 0.2)) for c, y in zip(s, labels, strict=True) if y != k]
        pull += [math.log1p(sum(mine))] if mine else []
        push.append(math.log1p(sum(others)))
    assert len(pull) == 3
    assert value(made, x, targets(labels)) == pytest.approx(mean(pull) + mean(push), rel=1e-6)


# ---- losses of the batch's similarities


def test_supervised_contrastive_is_equation_2_of_its_paper() -> None:
    x, labels = vectors(8), torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])  # the last has no positive
    s, values = cosines(x), []
    for i in range(8):
        positives = [p for p in range(8) if p != i and labels[p] == labels[i]]
        whole = sum(math.exp(s[i][a] / 0.3) for a in range(8) if a != i)
        if positives:
            values.append(-mean([math.log(math.exp(s[i][p] / 0.3) / whole) for p in positives]))
    assert len(values) == 7
    got = value(loss(kind="supervised_contrastive", temperature=0.3), x, targets(labels))
    assert got == pytest.approx(mean(values), rel=1e-6)


def test_multi_similarity_is_equation_15_of_its_paper_on_the_pairs_of_11_and_12() -> None:
    x, labels = vectors(9, seed=2), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3])
    alpha, beta, base, epsilon = 3.0, 7.0, 0.4, 0.2
    s, values, kept = cosines(x), [], 0
    for i in range(9):
        positives = [s[i][j] for j in range(9) if j != i and labels[j] == labels[i]]
        negatives = [s[i][j] for j in range(9) if labels[j] != labels[i]]
        hard_n = [c for c in negatives if positives and c > min(positives) - epsilon]
        hard_p = [c for c in positives if c < max(negatives) + epsilon]
        kept += len(hard_n) + len(hard_p)
        values.append(
            math.log1p(sum(math.exp(-alpha * (c - base)) for c in hard_p)) / alpha
            + math.log1p(sum(math.exp(beta * (c - base)) for c in hard_n)) / beta
        )
    assert 10 < kept < 72
    made = loss(kind="multi_similarity", alpha=alpha, beta=beta, base=base, epsilon=epsilon)
    assert value(made, x, targets(labels)) == pytest.approx(mean(values), rel=1e-6)


@pytest.mark.parametrize("settings", [t for t in ALL if t["kind"] not in (*OF_TRIPLETS, "contrastive")], ids=str)
def test_losses_of_cosines_take_embeddings_of_any_length(settings: dict[str, Any]) -> None:
    x, labels = vectors(12), torch.arange(12) % 4
    made = loss(**settings)
    one, twice = (value(made, factor * x, targets(labels)) for factor in (1, 2))
    assert (one == pytest.approx(twice, rel=1e-6)) == (settings["kind"] != "binary_cross_entropy")


# ---- the sum


def test_the_sum_weighs_its_terms_and_returns_the_value_of_each() -> None:
    x, known = vectors(12), targets(torch.arange(12) % 4)
    terms = (term(kind="contrastive", margin=1, weight=0.3), term(kind="supervised_contrastive", weight=4))
    total, values = Loss(terms, 5, 4)(x, known)
    alone = [value(Loss((t,), 5, 4), x, known) for t in (t.model_copy(update={"weight": 1.0}) for t in terms)]
    assert values == pytest.approx(alone)
    assert float(total) == pytest.approx(0.3 * alone[0] + 4 * alone[1])


def test_new_classes_leave_out_terms_with_parameters_per_class() -> None:
    kinds = ["cross_entropy", "supervised_contrastive", "proxy_anchor", "multi_similarity"]
    made = Loss(tuple(term(kind=k) for k in kinds), 5, 2)
    assert [t.per_class for t in made.settings] == [True, False, True, False]
    known = targets(torch.arange(12) % 4 + 7)  # classes without a proxy
    total, values = made(vectors(12).float(), known, new_classes=True)
    assert len(values) == 2
    assert float(total.detach()) == pytest.approx(sum(values))


def test_the_sum_for_new_classes_is_zero_if_all_terms_have_parameters_per_class() -> None:
    total, values = loss(kind="cross_entropy")(vectors(4), targets(torch.arange(4)), new_classes=True)
    assert float(total.detach()) == 0
    assert values == []


@pytest.mark.parametrize("settings", ALL, ids=str)
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_give_nan(settings: dict[str, Any], broken: float) -> None:
    x = vectors(12)
    x[3] = broken
    total, _ = loss(**settings)(x, targets(torch.arange(12) % 4))
    assert torch.isnan(total)


# ---- gradients, and incomplete batches


def gradient(made: Loss, x: Tensor, known: Targets) -> tuple[float, Tensor]:
    x = x.clone().requires_grad_()
    total, _ = made(x, known)
    total.backward()
    assert x.grad is not None
    return float(total.detach()), x.grad


@pytest.mark.parametrize("settings", [t for t in ALL if t.get("miner") != "distance"], ids=str)
def test_gradients_are_those_of_finite_differences(settings: dict[str, Any]) -> None:
    x, known = vectors(8, unit=True).requires_grad_(), targets(torch.arange(8) % 4)
    made = loss(**settings)
    assert torch.autograd.gradcheck(lambda v: made(v, known)[0], (x,), atol=1e-4)


@pytest.mark.parametrize("settings", [t for t in COMPARISONS if t["kind"] not in OF_TRIPLETS], ids=str)
def test_gradients_on_drawn_pairs_are_those_of_finite_differences(settings: dict[str, Any]) -> None:
    x, known = vectors(8).requires_grad_(), targets(torch.arange(8) % 4, tuples=[[0, 4], [1, 2], [2, 6]])
    made = loss(**settings)
    assert torch.autograd.gradcheck(lambda v: made(v, known)[0], (x,))


@pytest.mark.parametrize("settings", ALL, ids=str)
@pytest.mark.parametrize("n", [8, 40])
@pytest.mark.parametrize("alike", ["the same image twice", "all the same", "all zero"])
def test_identical_images_have_finite_gradients(settings: dict[str, Any], n: int, alike: str) -> None:
    x = vectors(n, unit=True).float()
    if alike == "the same image twice":
        x[4:8] = x[:4]
    else:
        x[:] = x[0] * (alike == "all the same")
    total, moves = gradient(loss(**settings).float(), x, targets(torch.arange(n) % 4))
    assert math.isfinite(total)
    assert torch.isfinite(moves).all()


@pytest.mark.parametrize("form", ["squared", "linear"])
def test_an_identical_positive_pair_has_no_gradient(form: str) -> None:
    x = vectors(1).repeat(2, 1)
    made = loss(kind="contrastive", margin=1.0, form=form)
    total, moves = gradient(made, x, targets(torch.zeros(2, dtype=torch.int64), tuples=[[0, 1]]))
    assert total == 0
    assert not moves.any()


@pytest.mark.parametrize("settings", ALL, ids=str)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0], [0]], ids=["no positives", "no negatives", "one image"])
def test_a_batch_without_positives_or_negatives_has_finite_gradients(
    settings: dict[str, Any], labels: list[int]
) -> None:
    x, known = vectors(len(labels)), targets(torch.tensor(labels, dtype=torch.int64))
    total, moves = gradient(loss(**settings), x, known)
    assert math.isfinite(total)
    assert torch.isfinite(moves).all()
    if settings["kind"] in OF_TRIPLETS:
        assert total == 0


@pytest.mark.parametrize("settings", COMPARISONS, ids=str)
def test_the_loss_of_no_tuples_is_zero(settings: dict[str, Any]) -> None:
    none = torch.zeros((0, 3), dtype=torch.int64)
    known = dataclasses.replace(targets(torch.arange(8) % 4), tuples=none)
    total, moves = gradient(loss(**settings), vectors(8), known)
    assert total == 0
    assert not moves.any()


@pytest.mark.parametrize("settings", COMPARISONS, ids=str)
@pytest.mark.parametrize("sketch", [True, False])
def test_the_loss_across_is_zero_for_a_batch_of_one_branch(settings: dict[str, Any], sketch: bool) -> None:
    known = targets(torch.arange(8) % 4, sketch=torch.full((8,), sketch))
    total, moves = gradient(loss(**settings, across=True), vectors(8), known)
    assert total == 0
    assert not moves.any()


def test_small_distances_survive_rounding() -> None:
    # A matrix product would round these distances of 1e-3, far from the origin, to 0 or more.
    x = (100 + 1e-3 * torch.arange(30)[:, None].expand(-1, 5)).float()
    got = value(
        loss(kind="contrastive", margin=1e-9, form="linear").float(), x, targets(torch.zeros(30, dtype=torch.int64))
    )
    want = mean([length(x[i].double() - x[j].double()) for i, j in itertools.combinations(range(30), 2)]) / 2
    assert got == pytest.approx(want, rel=1e-3)


# ---- recipes


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_a_term_refuses_unknown_keys_and_invalid_weights(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        term(**settings, colour="blue")
    for weight in (0, -1, math.inf):
        with pytest.raises(ValidationError):
            term(**{**settings, "weight": weight})


RECIPE = """
name: small
data: {sources: [{kind: toyshop, count: 96, seed: 5}], size: 32}
network: {backbone: fast}
losses: [{kind: triplet, margin: 0.2}]
sampler: {classes: 8, items: 2}
optimiser: {learning_rate: 0.1}
schedule: {kind: one_cycle}
train: {epochs: 3}
"""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampler={kind: pairs, pairs: 8}"], "cannot be computed from pairs"),
        (
            ["sampler={kind: triplets, triplets: 8}", "losses.0.target=item", "data.sources.0.sketches=1"],
            "draws by class",
        ),
        (["losses=[{kind: contrastive, margin: 1, across: true}]"], "no source has sketches"),
        (["losses.0.miner=distance", "network.unit=false"], "length 1"),
        (["sampler={kind: pairs, pairs: 8}", "losses=[{kind: dtsh}]"], "cannot be computed from pairs"),
        (["losses=[{kind: dsh}]"], "unit: false"),
        (["losses.0.miner=none"], "distance"),
        (["sampler={kind: triples}"], "pk, pairs or triplets"),
    ],
)
def test_a_recipe_with_an_unsuitable_sampler_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    with pytest.raises(RecipeError, match=message):
        recipe.read(path, overrides)


@pytest.mark.parametrize("settings", ALL, ids=str)
@pytest.mark.parametrize(
    "sampler", ["{classes: 8, items: 2}", "{kind: pairs, pairs: 8}", "{kind: triplets, triplets: 8}"]
)
def test_a_recipe_with_any_loss_and_suitable_sampler_can_be_written_and_read_again(
    tmp_path: Path, settings: dict[str, Any], sampler: str
) -> None:
    if "pairs" in sampler and settings["kind"] in OF_TRIPLETS:
        return
    (tmp_path / "small.yaml").write_text(RECIPE)
    unit = settings["kind"] not in ("dsh", "dtsh")
    overrides = [f"sampler={sampler}", f"losses=[{json.dumps(settings)}]", f"network.unit={json.dumps(unit)}"]
    read = recipe.read(tmp_path / "small.yaml", overrides)
    (tmp_path / "again.yaml").write_text(read.to_yaml())
    assert recipe.read(tmp_path / "again.yaml") == read


# ---- relative triplets


@pytest.mark.parametrize("squared", [True, False])
def test_a_relative_margin_is_a_share_of_the_distance_between_positive_and_negative(squared: bool) -> None:
    x, labels = vectors(9), torch.arange(9) % 3
    values = []
    for a, p, n in itertools.permutations(range(9), 3):
        if labels[a] == labels[p] != labels[n]:
            margin = 0.5 * length(x[p] - x[n]) ** (2 if squared else 1)
            values.append(triplet(x, a, p, n, margin, squared=squared))
    made = loss(kind="triplet", margin=0.5, miner="all", relative=True, squared=squared)
    assert value(made, x, targets(labels)) == pytest.approx(mean([v for v in values if v > 0]), rel=1e-9)


@given(st.integers(2, 8), st.sampled_from([True, False]), st.floats(0.01, 1), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_sketch_at_its_photo_satisfies_every_relative_margin(n: int, squared: bool, margin: float, seed: int) -> None:
    photos = vectors(n, unit=True, seed=seed)
    known = targets(torch.arange(2 * n), torch.arange(2 * n) % n, torch.arange(2 * n) >= n)
    across: dict[str, Any] = {"miner": "all", "target": "item", "across": True, "squared": squared}
    made = loss(kind="triplet", margin=margin, relative=True, **across)
    assert value(made, torch.cat([photos, photos]), known) == pytest.approx(0, abs=1e-9)


def test_drawn_triplets_across_have_relative_margins_too() -> None:
    x, labels, sketch = vectors(4), torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, False, True])
    made = loss(kind="triplet", margin=0.9, squared=False, across=True, relative=True)
    got = value(made, x, targets(labels, sketch=sketch, tuples=[[0, 1, 2], [3, 2, 1], [1, 0, 2]]))
    margin = 0.9 * length(x[1] - x[2])
    values = [triplet(x, *t, margin, squared=False) for t in ((0, 1, 2), (3, 2, 1))]
    assert got == pytest.approx(mean([v for v in values if v > 0]), rel=1e-9)


# ---- relational distillation


def drawn(n: int) -> Targets:
    """Targets of n photos and the sketch of each."""
    return targets(torch.arange(2 * n) % 2, torch.arange(2 * n) % n, torch.arange(2 * n) >= n)


def huber(x: float) -> float:
    return x**2 / 2 if abs(x) < 1 else abs(x) - 0.5


def test_relational_distillation_is_equations_4_to_9_of_its_paper() -> None:
    x = 3 * vectors(10)
    photos, sketches = x[:5], x[5:]

    def distances(y: Tensor) -> list[float]:
        found = [length(a - b) for a, b in itertools.product(y, y)]
        scale = mean([d for d in found if d > 0])
        return [d / scale for d in found]

    def angles(y: Tensor) -> list[float]:
        sides = [[(b - a) / max(length(b - a), 1e-12) for b in y] for a in y]
        return [float(own[i] @ own[j]) for own in sides for i in range(5) for j in range(5)]

    expected = [
        mean([huber(a - b) for a, b in zip(of(sketches), of(photos), strict=True)]) for of in (distances, angles)
    ]
    got = value(loss(kind="relational_distillation", angles=3), x, drawn(5))
    assert got == pytest.approx(expected[0] + 3 * expected[1], rel=1e-9)
    assert value(loss(kind="relational_distillation", angles=0), x, drawn(5)) == pytest.approx(expected[0], rel=1e-9)


@given(st.integers(2, 7), st.floats(0.01, 100), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_sketches_may_be_turned_shifted_and_scaled_photos(n: int, scale: float, seed: int) -> None:
    photos, moved = vectors(n, seed=seed), vectors(6, seed=seed + 1)
    turn = torch.linalg.qr(moved[:5]).Q
    sketches = scale * (photos @ turn) + 10 * moved[5]
    made = loss(kind="relational_distillation")
    assert value(made, torch.cat([photos, sketches]), drawn(n)) == pytest.approx(0, abs=1e-9)
    assert value(made, torch.cat([photos, vectors(n, seed=seed + 2)]), drawn(n)) >= 0


def test_photos_get_no_gradient_from_relations_and_equal_sketches_a_finite_one() -> None:
    x = vectors(8)
    x[5] = x[4]
    total, moves = gradient(loss(kind="relational_distillation"), x, drawn(4))
    assert total > 0
    assert torch.isfinite(moves).all()
    assert moves[4:].any()
    assert not moves[:4].any()


def test_relations_need_two_sketches_with_their_photos() -> None:
    known = targets(torch.arange(4), torch.tensor([0, 1, 0, 3]), torch.tensor([False, False, True, True]))
    assert [rows.tolist() for rows in known.drawn_photos()] == [[2], [0]]
    total, moves = gradient(loss(kind="relational_distillation"), vectors(4), known)
    assert total == 0
    assert not moves.any()


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_each_sketch_goes_with_a_photo_of_its_item_if_one_is_in_the_batch(images: list[tuple[int, bool]]) -> None:
    items = torch.tensor([item for item, _ in images], dtype=torch.int64)
    sketch = torch.tensor([is_sketch for _, is_sketch in images], dtype=torch.bool)
    sketches, photos = targets(items, items, sketch).drawn_photos()
    there = {item for item, is_sketch in images if not is_sketch}
    assert sketches.tolist() == [i for i, (item, is_sketch) in enumerate(images) if is_sketch and item in there]
    assert not sketch[photos].any()
    assert (items[photos] == items[sketches]).all()


# ---- soft labels


def test_soft_labels_are_a_divergence_of_the_classes_of_sketches_with_a_photo() -> None:
    x, rng = vectors(6), torch.Generator().manual_seed(1)
    scores, weight = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((6, 7), (7, 5)))
    bias = torch.arange(7.0, dtype=torch.float64)
    sketch, has_photo = torch.arange(6) > 1, torch.arange(6) < 5

    def shares(of: Tensor) -> Tensor:
        return (of / 2).exp() / (of / 2).exp().sum()

    values = []
    for row in (2, 3, 4):
        own, wanted = shares(weight @ normalize(x[row], dim=0) + bias), shares(scores[row])
        values.append(float((wanted * (wanted / own).log()).sum()))
    known = dataclasses.replace(
        targets(torch.arange(6), sketch=sketch), soft_labels=SoftLabels(scores, has_photo, weight, bias)
    )
    assert value(loss(kind="soft_labels", temperature=2), x, known) == pytest.approx(mean(values), rel=1e-9)
    same = dataclasses.replace(known, soft_labels=SoftLabels(normalize(x) @ weight.T + bias, has_photo, weight, bias))
    assert value(loss(kind="soft_labels"), x, same) == pytest.approx(0, abs=1e-9)
    none = dataclasses.replace(known, soft_labels=SoftLabels(scores, has_photo & ~has_photo, weight, bias))
    assert value(loss(kind="soft_labels"), x, none) == 0


def test_the_soft_labels_of_a_batch_are_those_of_its_rows() -> None:
    labels = SoftLabels(torch.arange(8.0).view(4, 2), torch.arange(4) > 1, torch.ones(2, 5), torch.ones(2))
    taken = labels.take(torch.tensor([3, 0]))
    assert taken.scores.tolist() == [[6, 7], [0, 1]]
    assert taken.known.tolist() == [True, False]


# ---- self-distillation


def test_self_distillation_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 5))
    centre, whitening, weight, bias = (
        rng.normal(size=5),
        rng.normal(size=(5, 5)),
        rng.normal(size=(7, 5)),
        rng.normal(size=7),
    )

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    def shares(features: np.ndarray) -> np.ndarray:
        powers = np.exp((weight @ features + bias) / 2)
        return np.asarray(powers / powers.sum())

    expected = []
    for a, b in zip(x, y, strict=True):
        plain, whitened = cosine(a - centre, b - centre), cosine((a - centre) @ whitening, (b - centre) @ whitening)
        divergence = float((shares(b) * np.log(shares(b) / shares(a))).sum())
        expected.append(1 - plain + 1 - whitened + 0.3 * divergence)

    teacher = Teacher(*(torch.from_numpy(a) for a in (y, centre, whitening, weight, bias)))
    known = dataclasses.replace(targets(torch.arange(6)), teacher=teacher)
    settings = {"kind": "self_distillation", "size": 32, "classes": 0.3, "temperature": 2.0}
    made = Loss((TERMS.validate_python(settings),), 5, 4)
    assert value(made, torch.from_numpy(x), known) == pytest.approx(mean(expected), rel=1e-9)
    assert value(made, torch.from_numpy(y), known) == pytest.approx(0, abs=1e-9)


def test_the_teacher_of_a_batch_has_the_features_of_its_rows() -> None:
    ones = torch.ones(3)
    teacher = Teacher(torch.arange(12.0).view(4, 3), ones, torch.eye(3), ones, ones).take(torch.tensor([3, 1, 3]))
    assert teacher.features.tolist() == [[9, 10, 11], [3, 4, 5], [9, 10, 11]]
