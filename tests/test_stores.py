"""The contract of a store, on every store: whatever is written, deleted and asked for, it answers as a dict would."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lookalike import search
from lookalike.errors import NotFoundError, UsageError
from lookalike.metric import Metric, similarity
from lookalike.stores import ALL, Answer, Filter, Item, SQLiteStore, Store, open_store
from lookalike.stores.manifest import EncoderPin, Manifest

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of store: how one is made in a folder, and opened once more by another process."""

    name: str
    create: Callable[[Path, Metric, int], Store]
    reopen: Callable[[Path], Store]


def create_sqlite(folder: Path, metric: Metric, dimension: int) -> Store:
    manifest = Manifest(metric=metric, dimension=dimension, encoder=EncoderPin(name="none", fingerprint=""))
    return SQLiteStore.create(folder / "store.lookalike", manifest)


KINDS = [Kind("sqlite", create_sqlite, lambda folder: open_store(folder / "store.lookalike"))]
METRICS = [(Metric.EUCLIDEAN, 3), (Metric.COSINE, 3), (Metric.HAMMING, 16)]

IDS = [
    *(
        "a",
        "A",
        "b",
        "a.b",
        "a b",
        "'",
        '"',
        "%",
        "_",
        "\\",
        "\n",
        " ",
        "0",
        "00",
        "-1",
        "1e3",
        "NULL",
        "true",
        "[]",
        "é",
    ),
    *("e\u0301", "\u2028", "\ud7ff", "\uffff", "\U00010000", "\U0001f408", "x" * 5000),
]
LABELS = ["cat", "Cat", "", "dog's", "kočka"]
KEYS = ["colour", "a.b", "", '"', "$[0]", "'; --", "ключ", "\\u0041"]
VALUES = ["red", "Red", "", "1", "null", "[1]", "\U0001f408"]

attributes = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=4)
items = st.builds(
    Item,
    id=st.sampled_from(IDS),
    uri=st.sampled_from(["", "/pictures/ä.jpg"]),
    label=st.none() | st.sampled_from(LABELS),
    attributes=attributes,
    sha256=st.sampled_from(["", "0" * 64]),
    signature=st.sampled_from(["", "1-2-3"]),
)
some_labels = st.frozensets(st.sampled_from([*LABELS, "none has it"]))
some_ids = st.frozensets(st.sampled_from([*IDS, "none has it", "a\0b"]))
filters = st.one_of(  # mostly one condition: of three, no item passes all
    st.just(ALL),
    st.builds(Filter, labels=some_labels),
    st.builds(Filter, attributes=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=1)),
    st.builds(Filter, ids=some_ids),
    st.builds(Filter, some_labels, attributes, some_ids),
)


class Congruence(RuleBasedStateMachine):
    """A store and a dict, side by side."""

    def __init__(self, kind: Kind, metric: Metric, dimension: int) -> None:
        super().__init__()
        self.kind, self.metric, self.dimension = kind, metric, dimension
        self.folder = TemporaryDirectory()
        self.known: dict[str, tuple[Item, Array]] = {}

    @initialize()
    def begin(self) -> None:
        self.store = self.kind.create(Path(self.folder.name), self.metric, self.dimension)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def some(self, count: int, seed: int) -> Array:
        """Few different vectors, so that many are at the same distance."""
        rng = np.random.default_rng(seed)
        if self.metric is Metric.HAMMING:
            return rng.choice(np.array([0, 1, 3, 255], np.uint8), (count, self.dimension // 8))
        return rng.integers(-1, 2, (count, self.dimension)).astype(np.float32)

    def left(self, where: Filter) -> list[str]:
        return [
            i
            for i, (item, _) in sorted(self.known.items())
            if (where.labels is None or item.label in where.labels)
            and (where.ids is None or i in where.ids)
            and where.attributes.items() <= item.attributes.items()
        ]

    def array(self, ids: list[str]) -> Array:
        return np.stack([self.known[i][1] for i in ids]) if ids else self.some(0, 0)

    def check(self, answers: list[Answer], hits: search.Hits, ids: list[str], metric: Metric) -> None:
        assert len(answers) == len(hits)
        for answer, (rows, distances) in zip(answers, hits, strict=True):
            assert (answer.metric, answer.exact, answer.complete) == (metric, True, True)
            assert [hit.item for hit in answer.hits] == [self.known[ids[row]][0] for row in rows]
            assert [hit.distance for hit in answer.hits] == distances.tolist()
            assert [hit.similarity for hit in answer.hits] == similarity(distances, metric, self.dimension).tolist()

    @rule(new=st.lists(items, max_size=12), seed=st.integers(0, 99))
    def upsert(self, new: list[Item], seed: int) -> None:
        vectors = self.some(len(new), seed)
        self.store.upsert(new, vectors)
        self.known |= {item.id: (item, vector) for item, vector in zip(new, vectors, strict=True)}

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=6))
    def delete(self, ids: list[str]) -> None:
        assert self.store.delete(ids) == len(self.known.keys() & set(ids))
        for i in ids:
            self.known.pop(i, None)

    @rule(ids=st.lists(st.sampled_from([*IDS, "none has it"]), max_size=8))
    def get(self, ids: list[str]) -> None:
        assert self.store.get(ids) == {i: self.known[i][0] for i in ids if i in self.known}
        there = [i for i in ids if i in self.known]
        assert np.array_equal(self.store.vectors(there), self.array(there))
        if len(there) < len(ids):
            with pytest.raises(NotFoundError):
                self.store.vectors(ids)

    @rule(where=filters, after=st.sampled_from(["", *IDS]))
    def scan(self, where: Filter, after: str) -> None:
        ids = self.left(where)
        assert self.store.count(where) == len(ids)
        assert list(self.store.scan(where, after=after)) == [self.known[i][0] for i in ids if i > after]

    @rule()
    def overview(self) -> None:
        labels = [item.label for item, _ in self.known.values() if item.label is not None]
        assert self.store.labels() == {label: labels.count(label) for label in labels}
        snapshot, ids = self.store.snapshot(), sorted(self.known)
        assert list(snapshot.ids) == ids
        assert np.array_equal(snapshot.vectors, self.array(ids))
        assert self.store.size() > 0

    @rule(where=filters, seed=st.integers(0, 99), count=st.integers(0, 3), k=st.integers(1, 30))
    def knn(self, where: Filter, seed: int, count: int, k: int) -> None:
        queries, ids = self.some(count, seed), self.left(where)
        for metric in [m for m in Metric if m.dtype == self.metric.dtype]:
            expected = search.knn(queries, self.array(ids), k, metric)
            self.check(self.store.knn(queries, k, where, metric=metric), expected, ids, metric)

    @rule(where=filters, seed=st.integers(0, 99), radius=st.sampled_from([0, 1, 2**0.5, 3, 99]))
    def within(self, where: Filter, seed: int, radius: float) -> None:
        queries, ids = self.some(2, seed), self.left(where)
        expected = search.within(queries, self.array(ids), radius, self.metric)
        self.check(self.store.within(queries, radius, where), expected, ids, self.metric)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.kind.reopen(Path(self.folder.name))


@pytest.mark.parametrize(("metric", "dimension"), METRICS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_store_answers_as_a_dict_would(kind: Kind, metric: Metric, dimension: int) -> None:
    sparing = settings(
        max_examples=12,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )

    class OfThisKind(Congruence):
        def __init__(self) -> None:
            super().__init__(kind, metric, dimension)

    run_state_machine_as_test(OfThisKind, settings=sparing)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def store(kind: Kind, tmp_path: Path) -> Iterator[Store]:
    store = kind.create(tmp_path, Metric.EUCLIDEAN, 2)
    store.upsert([Item("kept", "", "cat")], np.ones((1, 2), np.float32))
    yield store
    store.close()


@pytest.fixture
def bits(kind: Kind, tmp_path: Path) -> Iterator[Store]:
    store = kind.create(tmp_path, Metric.HAMMING, 16)
    yield store
    store.close()


def ids(store: Store) -> list[str]:
    return [item.id for item in store.scan()]


def test_of_an_id_that_comes_twice_the_last_one_counts(store: Store) -> None:
    store.upsert([Item("a", "first"), Item("a", "last")], np.array([[1, 2], [3, 4]], np.float32))
    assert store.get(["a"])["a"].uri == "last"
    assert store.vectors(["a"]).tolist() == [[3, 4]]


@pytest.mark.parametrize("vectors", [np.array([[1.5, 2]]), np.array([[1, 2]]), np.array([[1, 2]], np.uint8)])
def test_any_real_numbers_are_taken_as_float32(store: Store, vectors: Array) -> None:
    store.upsert([Item("a", "")], vectors)
    assert store.vectors(["a"]).dtype == np.float32
    assert store.vectors(["a"]).tolist() == vectors.tolist()
    assert store.knn(vectors, 1)[0].hits[0].distance == 0


@pytest.mark.parametrize(
    "vectors",
    [
        np.array([[1, 2], [np.nan, 1]], np.float32),
        np.array([[1, 2], [np.inf, 1]], np.float32),
        np.array([[1, 2], [1e300, 1]]),
        np.ones((2, 3), np.float32),
        np.ones((1, 2), np.float32),
        np.ones((3, 2), np.float32),
        np.ones((2, 2), bool),
        np.array([["1", "2"]] * 2),
    ],
)
def test_vectors_that_do_not_fit_are_refused_and_nothing_is_written(store: Store, vectors: Array) -> None:
    with pytest.raises(UsageError):
        store.upsert([Item("a", ""), Item("b", "")], vectors)
    assert ids(store) == ["kept"]


@pytest.mark.parametrize(
    "item",
    [
        Item("", ""),
        Item("a\0b", ""),
        Item("\ud800", ""),
        Item("a", "", label="\0"),
        Item("a", "", attributes={"a\0": "b"}),
        Item("a", "", attributes={"a": "\udfff"}),
    ],
    ids=repr,
)
def test_items_that_not_every_store_could_keep_are_refused_and_nothing_is_written(store: Store, item: Item) -> None:
    with pytest.raises(UsageError):
        store.upsert([Item("good", ""), item], np.ones((2, 2), np.float32))
    assert ids(store) == ["kept"]


def test_an_attribute_that_is_no_text_is_refused(store: Store) -> None:
    number: Any = 1
    with pytest.raises(UsageError):
        store.upsert([Item("a", "", attributes={"size": number})], np.ones((1, 2), np.float32))


def test_ids_that_cannot_be_there_are_not_there(store: Store) -> None:
    assert store.get(["", "a\0b"]) == {}
    assert store.delete(["", "a\0b", "kept\0"]) == 0
    assert store.count(Filter(ids=frozenset({"kept\0", "kept\0b"}))) == 0


def test_queries_that_make_no_sense_are_refused(store: Store) -> None:
    query = np.zeros((1, 2), np.float32)
    questions: list[Callable[[], object]] = [
        lambda: store.knn(query, 0),
        lambda: store.within(query, -1),
        lambda: store.within(query, float("nan")),
        lambda: store.knn(query[:, :1], 1),
        lambda: store.knn(query, 1, metric=Metric.HAMMING),
        lambda: store.knn(np.full((1, 2), np.nan), 1),
    ]
    for ask in questions:
        with pytest.raises(UsageError):
            ask()
    assert store.knn(query, 1)[0].hits[0].item.id == "kept"


def test_bits_are_compared_as_bits_alone(bits: Store) -> None:
    code = np.array([[1, 2]], np.uint8)
    bits.upsert([Item("a", "")], code)
    for vectors in (code.astype(np.float32), code.astype(np.int64), np.zeros((1, 3), np.uint8)):
        with pytest.raises(UsageError):
            bits.upsert([Item("b", "")], vectors)
        with pytest.raises(UsageError):
            bits.knn(vectors, 1)
    with pytest.raises(UsageError):
        bits.knn(code, 1, metric=Metric.COSINE)
    assert bits.within(code ^ 1, 2)[0].hits[0].distance == 2


def test_a_filter_may_leave_fewer_than_k_or_none(store: Store) -> None:
    store.upsert([Item(f"d{i}", "", "dog", {"size": "big"}) for i in range(3)], np.zeros((3, 2), np.float32))
    query = np.zeros((1, 2), np.float32)
    assert [h.item.id for h in store.knn(query, 9, Filter(labels=frozenset({"cat"})))[0].hits] == ["kept"]
    assert [h.item.id for h in store.knn(query, 2, Filter(attributes={"size": "big"}))[0].hits] == ["d0", "d1"]
    assert store.knn(query, 9, Filter(labels=frozenset()))[0].hits == ()
    assert store.within(query, 9, Filter(attributes={"size": "small"}))[0].hits == ()


@pytest.mark.parametrize("key", KEYS)
def test_an_attribute_has_both_this_name_and_this_value(store: Store, key: str) -> None:
    others = {other: "red" for other in KEYS if other != key}
    new = [Item("this", "", attributes={key: "red"}), Item("other", "", attributes=others | {key: "blue"})]
    store.upsert(new, np.zeros((2, 2), np.float32))
    assert [item.id for item in store.scan(Filter(attributes={key: "red"}))] == ["this"]


def test_empty_calls_do_nothing(store: Store) -> None:
    nothing = np.empty((0, 2), np.float32)
    store.upsert([], nothing)
    assert store.delete([]) == 0
    assert store.get([]) == {}
    assert store.vectors([]).shape == (0, 2)
    assert store.knn(nothing, 1) == store.within(nothing, 1) == []


def test_more_than_a_statement_takes(store: Store) -> None:
    many = [f"{i:05}" for i in range(6000)]
    vectors = np.random.default_rng(0).standard_normal((len(many), 2)).astype(np.float32)
    store.upsert([Item(i, "") for i in many], vectors)
    assert ids(store) == [*many, "kept"]
    assert list(store.get(many)) == many
    assert np.array_equal(store.vectors(many[::-1]), vectors[::-1])
    assert len(store.within(vectors[:1], 99)[0].hits) == len(many) + 1
    assert store.count(Filter(ids=frozenset(many))) == len(many)
    assert store.delete(many) == len(many)


def test_a_scan_survives_writes_meanwhile(store: Store) -> None:
    store.upsert([Item(f"{i:05}", "") for i in range(6000)], np.zeros((6000, 2), np.float32))
    scan = store.scan()
    first = next(scan)
    store.delete(["05999"])
    store.upsert([Item("05998b", "")], np.zeros((1, 2), np.float32))
    assert [first.id, *(item.id for item in scan)] == [*(f"{i:05}" for i in range(5999)), "05998b", "kept"]


def test_what_one_writes_another_sees(kind: Kind, store: Store, tmp_path: Path) -> None:
    other = kind.reopen(tmp_path)
    query = np.zeros((1, 2), np.float32)
    assert len(other.knn(query, 9)[0].hits) == 1
    store.upsert([Item("new", "")], query)
    assert [hit.item.id for hit in other.knn(query, 9)[0].hits] == ["new", "kept"]
    other.delete(["kept"])
    assert [hit.item.id for hit in store.knn(query, 9)[0].hits] == ["new"]
    store.upsert([Item("new", "")], query + 3)
    assert other.knn(query + 3, 9)[0].hits[0].distance == 0
    other.close()
