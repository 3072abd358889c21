"""Samplers: the composition of batches, their balance, and that they depend only on seed and epoch."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from lookalike.datasets import LabelledImages
from lookalike.errors import DataError, RecipeError
from lookalike.learn import recipe, sampling
from lookalike.learn.recipe.sampling import check_suits


def samples(photos: list[int], sketches: list[int] | None = None) -> LabelledImages:
    """Make samples: ``photos`` of each class, of which ``sketches`` have a sketch, right after the photo."""
    labels, items, sketch = [], [], []
    for label, count in enumerate(photos):
        for i in range(count):
            for drawn in (False, True)[: 2 if sketches and i < sketches[label] else 1]:
                labels.append(label)
                items.append(sum(photos[:label]) + i)
                sketch.append(drawn)
    return LabelledImages(
        images=np.zeros((len(labels), 1, 1, 3), dtype=np.uint8),
        labels=np.asarray(labels, dtype=np.int64),
        items=np.asarray(items, dtype=np.int64),
        sketch=np.asarray(sketch, dtype=np.bool_),
        classes=tuple(f"class {i}" for i in range(len(photos))),
    )


def pk(classes: int, items: int) -> recipe.PKSampler:
    return recipe.PKSampler(classes=classes, items=items)


def pairs(count: int, same: float = 0.5) -> recipe.PairSampler:
    return recipe.PairSampler(kind="pairs", pairs=count, same=same)


def triplets(count: int) -> recipe.TripletSampler:
    return recipe.TripletSampler(kind="triplets", triplets=count)


def drawn(images: LabelledImages, config: recipe.Sampler, epochs: int = 1, seed: int = 0) -> np.ndarray:
    """Collect the tuples of some epochs as rows of the samples."""
    found = []
    for number in range(epochs):
        for batch in sampling.batches(images, config, seed).epoch(number):
            assert batch.tuples is not None
            found.append(batch.rows[batch.tuples])
    return np.concatenate(found)


# ---- P × K


def test_a_batch_has_p_classes_with_k_items_each_and_a_photo_and_a_sketch_of_each_item() -> None:
    shop = samples([6] * 16, [6] * 16)
    batches = sampling.batches(shop, pk(4, 3), seed=0)
    assert len(batches) == 96 // 12
    for batch in batches.epoch(0):
        rows = batch.rows
        assert batch.tuples is None
        assert len(rows) == 24
        assert shop.sketch[rows].tolist() == [False, True] * 12
        assert np.array_equal(shop.items[rows][::2], shop.items[rows][1::2])
        assert np.unique(shop.labels[rows], return_counts=True)[1].tolist() == [6] * 4


def test_an_epoch_draws_every_item_once_if_the_numbers_allow() -> None:
    shop = samples([3] * 32)
    (batch,) = sampling.batches(shop, pk(32, 3), seed=0).epoch(0)
    assert sorted(shop.items[batch.rows]) == list(range(96))


def test_a_batch_of_more_classes_than_the_data_has_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"33 classes per batch.*32"):
        sampling.batches(samples([3] * 32), pk(33, 2), seed=0)


def test_a_batch_repeats_no_class_and_has_no_single_sketch() -> None:
    shop = samples([3] * 32, [0] * 31 + [1])
    for batch in sampling.batches(shop, pk(20, 2), seed=0).epoch(0):
        assert len(np.unique(shop.labels[batch.rows])) == 20
        assert shop.sketch[batch.rows].sum() != 1


def test_an_image_that_is_a_class_is_drawn_several_times_per_batch() -> None:
    album = samples([1] * 20)
    batches = sampling.batches(album, pk(5, 3), seed=0)
    assert len(batches) == 20 // 15
    seen = [batch.rows for number in range(4) for batch in batches.epoch(number)]
    for rows in seen:
        assert np.unique(rows, return_counts=True)[1].tolist() == [3] * 5
    assert len(np.unique(np.concatenate(seen))) > 10


def test_a_class_with_fewer_than_k_items_repeats_some() -> None:
    few = samples([1, 2, 3, 5])
    for batch in sampling.batches(few, pk(4, 4), seed=0).epoch(0):
        shown = [len(np.unique(batch.rows[few.labels[batch.rows] == label])) for label in range(4)]
        assert shown == [1, 2, 3, 4]
        assert np.unique(few.labels[batch.rows], return_counts=True)[1].tolist() == [4] * 4


def test_classes_without_images_are_ignored() -> None:
    half = samples([4] * 6)
    half = half.take(half.labels % 2 == 0)
    for config in (pk(3, 2), pairs(4), triplets(2)):
        for batch in sampling.batches(half, config, seed=0).epoch(0):
            assert set(half.labels[batch.rows]) <= {0, 2, 4}
    with pytest.raises(RecipeError, match="data has 3"):
        sampling.batches(half, pk(4, 2), seed=0)


# ---- all samplers


@pytest.mark.parametrize("config", [pk(4, 2), pairs(6), triplets(4)], ids=lambda c: c.kind)
def test_epochs_depend_only_on_seed_and_number(config: recipe.Sampler) -> None:
    shop = samples([3] * 32, [1] * 32)
    one, other, third = (sampling.batches(shop, config, seed) for seed in (7, 7, 8))
    list(one.epoch(0))

    def everything(batches: sampling.Batches, number: int) -> list[list[int]]:
        epoch = list(batches.epoch(number))
        assert len(epoch) == len(batches)
        return [[*b.rows.tolist(), *(b.tuples.ravel().tolist() if b.tuples is not None else [])] for b in epoch]

    first = everything(one, 1)
    assert first == everything(other, 1)
    assert first != everything(other, 2)
    assert first != everything(third, 1)


@pytest.mark.parametrize("config", [pk(4, 2), pairs(6), triplets(4)], ids=lambda c: c.kind)
@pytest.mark.parametrize("sketches", [None, [3, 0, 1, 3, 3, 2]])
def test_every_image_is_drawn_and_an_epoch_draws_about_as_many_items_as_there_are(
    config: recipe.Sampler, sketches: list[int] | None
) -> None:
    shop = samples([9, 3, 5, 3, 8, 12], sketches)
    batches = sampling.batches(shop, config, seed=1)
    seen = np.concatenate([batch.rows for number in range(60) for batch in batches.epoch(number)])
    assert set(seen.tolist()) == set(range(len(shop)))
    assert len(batches) in (40 // 8, 40 // 12)


# ---- pairs


@pytest.mark.parametrize(("same", "positives"), [(0.5, 5), (0.3, 3), (0.01, 1), (0.99, 9)])
def test_a_batch_of_pairs_has_its_share_of_each_kind_and_at_least_one(same: float, positives: int) -> None:
    shop = samples([4, 7, 2, 9])
    for batch in sampling.batches(shop, pairs(10, same), seed=0).epoch(0):
        assert batch.tuples is not None
        labels = shop.labels[batch.rows][batch.tuples]
        assert batch.tuples.shape == (10, 2)
        assert (labels[:, 0] == labels[:, 1]).tolist() == [True] * positives + [False] * (10 - positives)


def test_no_image_is_paired_with_itself_and_each_stands_once_in_a_batch() -> None:
    shop = samples([2, 2, 3])
    for config in (pairs(8), triplets(8)):
        rows = drawn(shop, config, epochs=50)
        assert (rows[:, 0] != rows[:, 1]).all()
        for batch in sampling.batches(shop, config, seed=0).epoch(0):
            assert len(np.unique(batch.rows)) == len(batch.rows)


def test_positive_pairs_are_uniform_over_classes_and_then_over_the_pairs_of_the_class() -> None:
    shop = samples([2, 5])
    rows = drawn(shop, pairs(100), epochs=100)[: 100 * 100]
    same = rows[shop.labels[rows[:, 0]] == shop.labels[rows[:, 1]]]
    assert len(same) == 5000
    assert np.mean(shop.labels[same[:, 0]] == 0) == pytest.approx(0.5, abs=0.03)
    large = same[shop.labels[same[:, 0]] == 1]
    counts = np.unique(large @ [10, 1], return_counts=True)[1]
    assert len(counts) == 5 * 4
    assert counts.min() / counts.sum() > 0.035
    assert counts.max() / counts.sum() < 0.066


def test_negative_pairs_are_uniform_over_pairs_of_classes_and_then_over_images() -> None:
    shop = samples([1, 2, 6])
    rows = drawn(shop, pairs(100), epochs=100)
    labels = shop.labels[rows]
    apart = labels[labels[:, 0] != labels[:, 1]]
    counts = np.unique(apart @ [3, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert counts / len(apart) == pytest.approx(np.full(6, 1 / 6), abs=0.02)


def test_a_class_with_one_image_is_only_negative() -> None:
    shop = samples([1, 4, 1, 3])
    rows = drawn(shop, pairs(10), epochs=20)
    labels = shop.labels[rows]
    same = labels[:, 0] == labels[:, 1]
    assert set(labels[same, 0]) == {1, 3}
    assert set(labels[~same].ravel()) == {0, 1, 2, 3}
    rows = drawn(shop, triplets(10), epochs=20)
    assert set(shop.labels[rows[:, 0]]) == {1, 3}
    assert set(shop.labels[rows[:, 2]]) == {0, 1, 2, 3}


def test_memory_grows_with_the_images_not_with_their_pairs() -> None:
    shop = samples([50_000, 50_000])  # five billion pairs
    (batch, *_) = sampling.batches(shop, pairs(64), seed=0).epoch(0)
    assert batch.tuples is not None
    assert batch.tuples.shape == (64, 2)


# ---- triplets


def test_a_triplet_has_a_positive_of_the_same_class_and_a_negative_of_another() -> None:
    shop = samples([4, 7, 2, 9])
    labels = shop.labels[drawn(shop, triplets(5), epochs=30)]
    assert labels.shape[1] == 3
    assert (labels[:, 0] == labels[:, 1]).all()
    assert (labels[:, 0] != labels[:, 2]).all()
    assert np.unique(labels[:, 0], return_counts=True)[1] / len(labels) == pytest.approx(np.full(4, 0.25), abs=0.1)


# ---- sketches


@pytest.mark.parametrize("config", [pairs(8), triplets(8)], ids=lambda c: c.kind)
def test_anchors_are_sketches_if_the_class_has_any_and_the_others_are_photos(config: recipe.Sampler) -> None:
    shop = samples([3, 4, 2, 1], [3, 0, 1, 1])
    rows = drawn(shop, config, epochs=40)
    has = np.asarray([True, False, True, True])
    assert np.array_equal(shop.sketch[rows[:, 0]], has[shop.labels[rows[:, 0]]])
    assert not shop.sketch[rows[:, 1:]].any()
    positive = rows[shop.labels[rows[:, 0]] == shop.labels[rows[:, 1]]]
    assert set(shop.labels[positive[:, 0]]) == {0, 1, 2, 3}  # one photo and its sketch make a pair
    assert (shop.items[positive[:, 0]] == shop.items[positive[:, 1]]).any()


def test_a_class_of_only_sketches_pairs_them() -> None:
    shop = samples([3, 3], [3, 3])
    shop = shop.take((shop.labels == 0) | shop.sketch)
    rows = drawn(shop, pairs(6), epochs=20)
    alone = rows[(shop.labels[rows] == 1).all(axis=1)]
    assert len(alone)
    assert (alone[:, 0] != alone[:, 1]).all()
    assert shop.sketch[alone].all()


@pytest.mark.parametrize(("photos", "sketches"), [([5, 5], [1, 0]), ([5, 5], [1, 1]), ([1, 1], [1, 1])])
@pytest.mark.parametrize("config", [pairs(2), triplets(1)], ids=lambda c: c.kind)
def test_a_batch_has_at_least_two_images_of_each_branch(
    photos: list[int], sketches: list[int], config: recipe.Sampler
) -> None:
    shop = samples(photos, sketches)
    for number in range(30):
        for batch in sampling.batches(shop, config, seed=0).epoch(number):
            assert shop.sketch[batch.rows].sum() != 1
            assert (~shop.sketch[batch.rows]).sum() != 1
            assert batch.tuples is not None
            assert batch.tuples.max() < len(batch.rows)


# ---- errors


@pytest.mark.parametrize("config", [pairs(4), triplets(4)], ids=lambda c: c.kind)
def test_data_without_a_pair_is_refused(config: recipe.Sampler) -> None:
    with pytest.raises(DataError, match="only one class"):
        sampling.batches(samples([5]), config, seed=0)
    with pytest.raises(DataError, match="two images"):
        sampling.batches(samples([1, 1, 1]), config, seed=0)


# ---- recipes


def test_a_sampler_without_a_kind_is_p_times_k() -> None:
    adapter: TypeAdapter[recipe.Sampler] = TypeAdapter(recipe.Sampler)
    assert adapter.validate_python({"classes": 10, "items": 50}) == pk(10, 50)
    for config in (pk(10, 50), pairs(8, 0.25), triplets(3)):
        assert adapter.validate_python(config.model_dump()) == config
        assert adapter.validate_python(config) == config
    with pytest.raises(ValidationError, match="pk, pairs or triplets"):
        adapter.validate_python({"kind": "quadruplets"})
    with pytest.raises(ValidationError, match="Extra inputs"):
        adapter.validate_python({"kind": "pairs", "pairs": 3, "items": 2})


# ---- what a loss can compare

LOSS: TypeAdapter[recipe.LossTerm] = TypeAdapter(recipe.LossTerm)
COMPARING = [
    {"kind": "triplet", "margin": 0.2},
    {"kind": "contrastive", "margin": 1},
    {"kind": "binary_cross_entropy"},
    {"kind": "supervised_contrastive"},
    {"kind": "multi_similarity"},
]
CLASSIFYING = [{"kind": "cross_entropy"}, {"kind": "proxy_anchor"}]


def check(loss: dict[str, object], config: recipe.Sampler, sketches: bool = False, per_image: bool = False) -> None:
    check_suits(config, [LOSS.validate_python(loss)], class_per_image=per_image, has_sketches=sketches)


@pytest.mark.parametrize("loss", COMPARING)
def test_a_loss_that_compares_needs_two_classes_in_a_batch(loss: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"sampler\.classes must be at least 2"):
        check(loss, pk(1, 8))
    check(loss, pk(2, 8))


@pytest.mark.parametrize("loss", CLASSIFYING)
def test_a_classifier_may_have_batches_of_one_class(loss: dict[str, object]) -> None:
    check(loss, pk(1, 8))


def test_a_loss_of_items_needs_sketches_or_views() -> None:
    by_item = {"kind": "triplet", "margin": 0.2, "target": "item"}
    with pytest.raises(ValueError, match="without sketches each item is one image"):
        check(by_item, pk(4, 4))
    check(by_item, pk(1, 4), sketches=True)
    check(by_item, pk(4, 2), per_image=True)


def compare(images: LabelledImages, config: recipe.Sampler, **loss: object) -> None:
    term = LOSS.validate_python({"kind": "triplet", "margin": 0.2} | loss)
    sampling.check_comparisons(sampling.batches(images, config, 0), images, term)


def test_a_loss_that_finds_nothing_in_any_batch_is_refused() -> None:
    plain, drawn_too = samples([6] * 4), samples([6] * 4, [6] * 4)
    for config in (pk(2, 2), triplets(3)):
        compare(plain, config)
        compare(drawn_too, config, across=True)
    compare(drawn_too, pk(1, 2), target="item", across=True)
    with pytest.raises(RecipeError, match="find a positive"):
        compare(plain, pk(2, 2), target="item")
    with pytest.raises(RecipeError, match="find a positive"):
        compare(plain, pk(2, 2), across=True)
    with pytest.raises(RecipeError, match="find a positive"):
        compare(plain, triplets(3), across=True)
    with pytest.raises(RecipeError, match="find a negative"):
        compare(plain, pk(1, 3))
    with pytest.raises(RecipeError, match=r"find (an image with a positive and )?a negative"):
        # Sketches of one class only, and batches of one class.
        compare(samples([6, 6], [6, 0]), pk(1, 3), across=True)
    for loss in ({"kind": "supervised_contrastive"}, {"kind": "multi_similarity"}):
        term = LOSS.validate_python(loss)
        with pytest.raises(RecipeError, match="find a negative"):
            sampling.check_comparisons(sampling.batches(plain, pk(1, 3), 0), plain, term)
    sampling.check_comparisons(
        sampling.batches(plain, pk(1, 3), 0), plain, LOSS.validate_python({"kind": "cross_entropy"})
    )


def test_drawn_batches_never_have_one_class_by_chance() -> None:
    images = samples([20, 1, 1, 2])
    for config in (pk(2, 2), pairs(2, 0.99), triplets(1)):
        for epoch in range(30):
            for batch in sampling.batches(images, config, 0).epoch(epoch):
                assert len(np.unique(images.labels[batch.rows])) > 1


# ---- sketches


def test_drawing_sketches_counts_an_item_once_for_each_of_its_sketches() -> None:
    shop = samples([4] * 6, [2] * 6)
    more = LabelledImages(
        shop.images, shop.labels, np.where(shop.sketch, shop.items // 4 * 4, shop.items), shop.sketch, shop.classes
    )  # both sketches of a class are of its first photo
    config = recipe.PKSampler(classes=3, items=2, draw="sketches")
    batches = sampling.batches(more, config, seed=0)
    assert len(batches) == 2
    rows = np.concatenate([batch.rows for batch in batches.epoch(0)])
    assert sorted(rows[more.sketch[rows]]) == np.flatnonzero(more.sketch).tolist()
    assert more.sketch[rows].tolist() == [False, True] * 12
    assert np.array_equal(more.items[rows][::2], more.items[rows][1::2])


def test_classes_without_sketches_are_left_out_when_sketches_are_drawn() -> None:
    shop = samples([4, 4, 4], [2, 0, 2])
    config = recipe.PKSampler(classes=2, items=2, draw="sketches")
    for batch in sampling.batches(shop, config, seed=0).epoch(0):
        assert set(shop.labels[batch.rows]) == {0, 2}
    with pytest.raises(RecipeError, match="the data has 2"):
        sampling.batches(shop, recipe.PKSampler(classes=3, items=2, draw="sketches"), seed=0)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_fine_triplets_have_the_drawn_photo_and_negatives_by_their_rule(share: float) -> None:
    shop = samples([5] * 4, [5] * 4)
    config = recipe.TripletSampler(kind="triplets", triplets=10, positive="item", same_class=share)
    anchors, positives, negatives = drawn(shop, config, epochs=40).T
    assert shop.sketch[anchors].all()
    assert not shop.sketch[positives].any()
    assert not shop.sketch[negatives].any()
    assert (shop.items[anchors] == shop.items[positives]).all()
    assert (negatives != positives).all()
    found = float((shop.labels[anchors] == shop.labels[negatives]).mean())
    assert found == pytest.approx(share, abs=0.06)  # of 800 triplets: three standard deviations
    assert sorted(np.unique(anchors)) == np.flatnonzero(shop.sketch).tolist()


def test_a_class_of_one_photo_has_fine_negatives_of_other_classes() -> None:
    shop = samples([1, 3], [1, 0])
    config = recipe.TripletSampler(kind="triplets", triplets=1, positive="item", same_class=1.0)
    _, _, negatives = drawn(shop, config, epochs=20).T
    assert set(shop.labels[negatives]) == {1}


def test_negatives_of_the_same_class_need_the_drawn_photo_as_positive() -> None:
    with pytest.raises(ValidationError, match=r"needs sampler\.positive: item"):
        recipe.TripletSampler(kind="triplets", triplets=1, same_class=0.5)
