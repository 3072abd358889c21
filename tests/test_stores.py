"""The contract of a store, on every store: after any writes and deletes it answers as a dict and exact search would.

A new store is a `Kind` in `KINDS`, and a `Mode` in `MODES` for each way in which it searches.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lookalike import search
from lookalike.ann import MIN_VECTORS
from lookalike.errors import NotFoundError, UsageError
from lookalike.metric import Metric, VectorSpace, pairwise, similarity
from lookalike.query import ALL, DistanceRange, Filter, Query
from lookalike.stores import (
    Answer,
    Indexable,
    Item,
    Snapshotting,
    SQLiteStore,
    Store,
    Streaming,
    open_store,
    take_snapshot,
)
from lookalike.stores.settings import IndexKind
from searching import knn, range_query

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of store.

    Attributes:
        name: in the names of tests.
        create: creates one in an empty folder.
        reopen: opens it once more, as another process would.
        copy: copies a store that is closed into another folder.
    """

    name: str
    create: Callable[[Path, VectorSpace], Store]
    reopen: Callable[[Path, VectorSpace], Store]
    copy: Callable[[Path, Path], object]


@dataclass(frozen=True)
class Mode:
    """How a store searches.

    Attributes:
        name: in the names of tests.
        kind: of the store.
        spaces: of the collections that are searched.
        index: makes a store search approximately; none if it searches exactly.
        initial: items that are in the store when it is indexed.
    """

    name: str
    kind: Kind
    spaces: tuple[VectorSpace, ...]
    index: Callable[[Store], None] | None = None
    initial: int = 0


def build_index(kind: IndexKind) -> Callable[[Store], None]:
    def build(store: Store) -> None:
        assert isinstance(store, Indexable)
        store.tune(lambda now: now.model_copy(update={"index": kind, "budget": 0}))  # too small for any exact query
        assert store.build_index()

    return build


SQLITE = Kind(
    "sqlite",
    SQLiteStore.create,
    open_store,
    lambda folder, other: shutil.copytree(folder, other, dirs_exist_ok=True),
)
KINDS = [SQLITE]

EUCLIDEAN, COSINE, HAMMING = Metric.EUCLIDEAN, Metric.COSINE, Metric.HAMMING

MODES = [
    # In three dimensions nearly every vector is there several times.
    Mode("sqlite", SQLITE, (VectorSpace(EUCLIDEAN, 3), VectorSpace(COSINE, 3), VectorSpace(HAMMING, 16))),
    Mode("sqlite-hnsw", SQLITE, (VectorSpace(EUCLIDEAN, 8),), build_index("hnsw"), MIN_VECTORS + 100),
    Mode("sqlite-ivf-pq", SQLITE, (VectorSpace(COSINE, 8),), build_index("ivf-pq"), MIN_VECTORS + 100),
]

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
    uri=st.sampled_from(["", "/images/ä.jpg"]),
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

exactly = st.sampled_from([None, False, True])
rings = st.sampled_from([0, 1, 2**0.5, 3, 99]).flatmap(
    lambda r: st.tuples(st.sampled_from([0, 0, r / 2, r]), st.just(r))
)


# Tolerance of the recall that a store states, which it measured on a sample of its own.
MARGIN = 0.05

# Distances within which ten or twenty of the initial items lie.
NEAR = {Metric.EUCLIDEAN: 1.5, Metric.COSINE: 0.25, Metric.HAMMING: 1}


@dataclass
class Tally:
    """Counts over approximate answers: exact hits, hits that were as near, and hits that the stated recall promises."""

    due: int = 0
    good: int = 0
    promised: float = 0

    def add(self, answer: Answer, exact: Array) -> None:
        assert answer.recall is not None
        assert 0 < answer.recall <= 1
        self.due += len(exact)
        self.good += sum(hit.distance <= exact[-1] for hit in answer.hits)
        self.promised += answer.recall * len(exact)

    def check(self) -> None:
        assert self.due > 500  # else the index was hardly used
        assert self.good >= self.promised - MARGIN * self.due


@dataclass(frozen=True)
class Initial:
    """A store that each run begins with, in a folder of its own, and its items and vectors."""

    mode: Mode
    space: VectorSpace
    folder: Path

    @cached_property
    def known(self) -> dict[str, tuple[Item, Array]]:
        labels, count = [*LABELS, None], self.mode.initial
        items = [Item(f"g{i:04}", "", labels[i % 6], {"colour": VALUES[i % 2]}) for i in range(count)]
        vectors = draw(count, self.space, 1000)
        return {item.id: (item, vector) for item, vector in zip(items, vectors, strict=True)}

    def create(self) -> None:
        with closing(self.mode.kind.create(self.folder, self.space)) as store:
            if self.mode.index is not None:
                items, vectors = zip(*self.known.values(), strict=True)
                store.upsert(items, np.stack(vectors))
                self.mode.index(store)


def draw(count: int, space: VectorSpace, seed: int) -> Array:
    """Draw vectors of a few different values, so that many lie at the same distance."""
    rng = np.random.default_rng(seed)
    if space.metric is Metric.HAMMING:
        return rng.choice(np.array([0, 1, 3, 255], np.uint8), (count, space.columns))
    return rng.integers(-1, 2, (count, space.columns)).astype(np.float32)


class Congruence(RuleBasedStateMachine):
    """A store and a dict, side by side."""

    def __init__(self, initial: Initial, tallies: dict[str, Tally]) -> None:
        super().__init__()
        self.mode, self.space, self.metric, self.tallies = initial.mode, initial.space, initial.space.metric, tallies
        self.initial, self.known = initial, dict(initial.known)
        self.folder = TemporaryDirectory()

    @initialize()
    def begin(self) -> None:
        self.mode.kind.copy(self.initial.folder, Path(self.folder.name))
        self.store = self.mode.kind.reopen(Path(self.folder.name), self.space)

    def teardown(self) -> None:
        if self.mode.index is not None:  # measure the recall after all writes, on enough answers
            queries, ids, radius = self.draw(30, 2000), sorted(self.known), NEAR[self.metric]
            near = search.knn(queries, self.array(ids), 10, self.metric)
            around = search.within(queries, self.array(ids), DistanceRange(0, radius), self.metric)
            self.check(self.tallies["knn"], queries, knn(self.store, queries, 10), near, ids)
            self.check(self.tallies["within"], queries, self.store.search(range_query(queries, radius)), around, ids)
        self.store.close()
        self.folder.cleanup()

    def draw(self, count: int, seed: int) -> Array:
        return draw(count, self.space, seed)

    def write(self, new: list[Item], vectors: Array) -> None:
        self.store.upsert(new, vectors)
        self.known |= {item.id: (item, vector) for item, vector in zip(new, vectors, strict=True)}

    def left(self, where: Filter) -> list[str]:
        return [
            i
            for i, (item, _) in sorted(self.known.items())
            if (where.labels is None or item.label in where.labels)
            and (where.ids is None or i in where.ids)
            and where.attributes.items() <= item.attributes.items()
        ]

    def array(self, ids: list[str]) -> Array:
        return np.stack([self.known[i][1] for i in ids]) if ids else self.draw(0, 0)

    def check(self, tally: Tally, queries: Array, answers: list[Answer], hits: search.Hits, ids: list[str]) -> None:
        """Compare exact answers with exact search, and approximate ones with exact search among the items they have."""
        assert len(answers) == len(hits)
        for query, answer, expected in zip(queries, answers, hits, strict=True):
            (rows, distances), among = expected, ids
            if answer.exact:
                assert (answer.complete, answer.recall) == (True, None)
            else:
                assert self.mode.index is not None
                among = sorted(hit.item.id for hit in answer.hits)
                assert {*among} <= {*ids}
                if answer.complete and len(rows):
                    tally.add(answer, distances)
                whole = search.knn(query[None], self.array(among), max(1, len(among)), answer.metric)
                ((rows, distances),) = whole
            assert [hit.item for hit in answer.hits] == [self.known[among[row]][0] for row in rows]
            assert [hit.distance for hit in answer.hits] == distances.tolist()
            alike = similarity(distances, answer.metric, self.space.dimension)
            assert [hit.similarity for hit in answer.hits] == alike.tolist()

    @rule(new=st.lists(items, max_size=12), seed=st.integers(0, 99))
    def upsert(self, new: list[Item], seed: int) -> None:
        self.write(new, self.draw(len(new), seed))

    @rule(new=st.lists(items, max_size=8), stale=st.booleans())
    def update(self, new: list[Item], stale: bool) -> None:
        there = [self.known[item.id][0] for item in {item.id: item for item in new}.values() if item.id in self.known]
        read = [replace(item, uri=f"{item.uri}, as it was") for item in there] if stale else there
        by_id = {item.id: item for item in new}
        wanted = [replace(by_id[item.id], sha256=item.sha256) for item in there]
        done = self.store.update(list(zip(read, wanted, strict=True)))
        assert done == [old for old, now, new in zip(read, there, wanted, strict=True) if now.uri in (old.uri, new.uri)]
        for old, item in zip(read, wanted, strict=True):
            if old in done:
                self.known[item.id] = (item, self.known[item.id][1])

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=6))
    def delete(self, ids: list[str]) -> None:
        assert self.store.delete(ids) == len(self.known.keys() & set(ids))
        for i in ids:
            self.known.pop(i, None)

    @rule(seed=st.integers(0, 99), k=st.integers(1, 12))
    def delete_nearest(self, seed: int, k: int) -> None:
        self.delete([hit.item.id for hit in knn(self.store, self.draw(1, seed), k)[0].hits])
        self.knn(ALL, seed, 1, k, exact=None)

    @rule(seed=st.integers(0, 99), k=st.integers(1, 12))
    def move_nearest(self, seed: int, k: int) -> None:
        here, there = self.draw(1, seed), self.draw(1, seed + 1)
        new = [Item(hit.item.id, "moved") for hit in knn(self.store, here, k)[0].hits]
        self.write(new, np.repeat(there, len(new), axis=0))
        self.knn(ALL, seed, 1, k, exact=None)
        self.knn(ALL, seed + 1, 1, k, exact=None)
        assert not new or knn(self.store, there, 1)[0].hits[0].distance == pairwise(there, there, self.metric)

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
        assert self.store.labels() == Counter(labels)
        if isinstance(self.store, Snapshotting):
            snapshot, ids = self.store.snapshot(), sorted(self.known)
            assert list(snapshot.ids) == ids
            assert np.array_equal(snapshot.vectors[:], self.array(ids))
        assert self.store.size() > 0

    @rule(
        where=filters,
        seed=st.integers(0, 99),
        count=st.integers(0, 3),
        k=st.integers(1, 30) | st.just(5000),
        exact=exactly,
    )
    def knn(self, where: Filter, seed: int, count: int, k: int, exact: bool | None) -> None:
        queries, ids = self.draw(count, seed), self.left(where)
        for metric in [m for m in Metric if m.dtype == self.metric.dtype]:
            answers = knn(self.store, queries, k, where, metric=metric, exact=exact)
            assert all(len(answer.hits) == min(k, len(ids)) for answer in answers)
            assert all(answer.metric == metric and (answer.exact or not exact) for answer in answers)
            self.check(self.tallies["knn"], queries, answers, search.knn(queries, self.array(ids), k, metric), ids)

    @rule(where=filters, seed=st.integers(0, 99), ring=rings, exact=exactly)
    def within(self, where: Filter, seed: int, ring: tuple[float, float], exact: bool | None) -> None:
        queries, ids, (least, radius) = self.draw(2, seed), self.left(where), ring
        answers = self.store.search(range_query(queries, radius, where, minimum=least, exact=exact))
        assert all(answer.metric == self.metric and (answer.exact or not exact) for answer in answers)
        low, high = np.float32(least), np.float32(radius)
        assert all(low <= hit.distance <= high for answer in answers for hit in answer.hits)
        expected = search.within(queries, self.array(ids), DistanceRange(least, radius), self.metric)
        self.check(self.tallies["within"], queries, answers, expected, ids)
        for query, (rows, _) in zip(queries, expected, strict=True):
            if not isinstance(self.store, Streaming):
                break
            parts = self.store.stream(range_query(query[None], radius, where, minimum=least))
            assert [hit.item.id for part in parts for hit in part.hits] == [ids[row] for row in rows]
        for answer, (rows, _) in zip(
            self.store.search(range_query(queries, radius, where, minimum=least, limit=3, exact=True)),
            expected,
            strict=True,
        ):
            assert [hit.item.id for hit in answer.hits] == [ids[row] for row in rows[:3]]
            assert answer.complete == (len(rows) <= 3)

    @rule()
    def refuse(self) -> None:
        query = self.draw(1, 0)
        questions: list[Callable[[], object]] = [
            lambda: knn(self.store, query, 0),
            lambda: knn(self.store, query[:, :0], 1),
            lambda: self.store.search(range_query(query, -1)),
            lambda: self.store.search(range_query(query, float("nan"))),
            lambda: self.store.search(range_query(query, 1, minimum=2)),
            lambda: self.store.search(Query(items=["a"])),
        ]
        if isinstance(self.store, Streaming):
            stream = self.store.stream
            questions += [lambda: stream(range_query(self.draw(2, 0), 1)), lambda: stream(Query(vectors=query, k=1))]
        for ask in questions:
            with pytest.raises(UsageError):
                ask()
        nothing = self.draw(0, 0)
        assert knn(self.store, nothing, 5) == self.store.search(range_query(nothing, 5)) == []

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.mode.kind.reopen(Path(self.folder.name), self.space)


@pytest.mark.parametrize(
    ("mode", "space"),
    [
        pytest.param(
            mode,
            space,
            id=f"{mode.name}-{space.metric}",
            marks=[pytest.mark.slow, pytest.mark.no_cover] if mode.index else [],
        )
        for mode in MODES
        for space in mode.spaces
    ],
)
def test_a_store_answers_as_a_dict_would(mode: Mode, space: VectorSpace, tmp_path: Path) -> None:
    sparing = settings(
        max_examples=12,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    initial, tallies = Initial(mode, space, tmp_path), {"knn": Tally(), "within": Tally()}
    initial.create()

    class InThisMode(Congruence):
        def __init__(self) -> None:
            super().__init__(initial, tallies)

    run_state_machine_as_test(InThisMode, settings=sparing)
    for tally in tallies.values() if mode.index is not None else ():
        tally.check()


PLANE = VectorSpace(EUCLIDEAN, 2)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def store(kind: Kind, tmp_path: Path) -> Iterator[Store]:
    store = kind.create(tmp_path, PLANE)
    store.upsert([Item("kept", "", "cat")], np.ones((1, 2), np.float32))
    yield store
    store.close()


@pytest.fixture
def bits(kind: Kind, tmp_path: Path) -> Iterator[Store]:
    store = kind.create(tmp_path, VectorSpace(HAMMING, 16))
    yield store
    store.close()


def ids(store: Store) -> list[str]:
    return [item.id for item in store.scan()]


def test_the_last_item_of_an_id_counts(store: Store) -> None:
    store.upsert([Item("a", "first"), Item("a", "last")], np.array([[1, 2], [3, 4]], np.float32))
    assert store.get(["a"])["a"].uri == "last"
    assert store.vectors(["a"]).tolist() == [[3, 4]]


@pytest.mark.parametrize("vectors", [np.array([[1.5, 2]]), np.array([[1, 2]]), np.array([[1, 2]], np.uint8)])
def test_real_numbers_are_converted_to_float32(store: Store, vectors: Array) -> None:
    store.upsert([Item("a", "")], vectors)
    assert store.vectors(["a"]).dtype == np.float32
    assert store.vectors(["a"]).tolist() == vectors.tolist()
    assert knn(store, vectors, 1)[0].hits[0].distance == 0


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
def test_items_with_invalid_texts_are_refused_and_nothing_is_written(store: Store, item: Item) -> None:
    with pytest.raises(UsageError):
        store.upsert([Item("good", ""), item], np.ones((2, 2), np.float32))
    assert ids(store) == ["kept"]


def test_an_item_of_a_megabyte_of_text_is_refused(store: Store) -> None:
    store.upsert([Item("long", "", label="x" * 1000)], np.ones((1, 2), np.float32))
    with pytest.raises(UsageError, match="characters"):
        store.upsert([Item("a", "", attributes={"a": "x" * 2**20})], np.ones((1, 2), np.float32))
    assert ids(store) == ["kept", "long"]


def test_an_attribute_that_is_not_a_text_is_refused(store: Store) -> None:
    number: Any = 1
    with pytest.raises(UsageError):
        store.upsert([Item("a", "", attributes={"size": number})], np.ones((1, 2), np.float32))


def test_invalid_ids_are_unknown(store: Store) -> None:
    assert store.get(["", "a\0b"]) == {}
    assert store.delete(["", "a\0b", "kept\0"]) == 0
    assert store.count(Filter(ids=frozenset({"kept\0", "kept\0b"}))) == 0


def test_queries_of_another_shape_or_metric_are_refused(store: Store) -> None:
    query = np.zeros((1, 2), np.float32)
    questions: list[Callable[[], object]] = [
        lambda: knn(store, query[:, :1], 1),
        lambda: knn(store, query, 1, metric=Metric.HAMMING),
        lambda: knn(store, np.full((1, 2), np.nan), 1),
    ]
    for ask in questions:
        with pytest.raises(UsageError):
            ask()
    assert knn(store, query, 1)[0].hits[0].item.id == "kept"


def test_bits_are_compared_only_as_bits(bits: Store) -> None:
    code = np.array([[1, 2]], np.uint8)
    bits.upsert([Item("a", "")], code)
    for vectors in (code.astype(np.float32), code.astype(np.int64), np.zeros((1, 3), np.uint8)):
        with pytest.raises(UsageError):
            bits.upsert([Item("b", "")], vectors)
        with pytest.raises(UsageError):
            knn(bits, vectors, 1)
    with pytest.raises(UsageError):
        knn(bits, code, 1, metric=Metric.COSINE)
    assert bits.search(range_query(code ^ 1, 2))[0].hits[0].distance == 2


def test_fewer_than_k_items_may_pass_a_filter(store: Store) -> None:
    store.upsert([Item(f"d{i}", "", "dog", {"size": "big"}) for i in range(3)], np.zeros((3, 2), np.float32))
    query = np.zeros((1, 2), np.float32)
    assert [h.item.id for h in knn(store, query, 9, Filter(labels=frozenset({"cat"})))[0].hits] == ["kept"]
    assert [h.item.id for h in knn(store, query, 2, Filter(attributes={"size": "big"}))[0].hits] == ["d0", "d1"]
    assert knn(store, query, 9, Filter(labels=frozenset()))[0].hits == ()
    assert store.search(range_query(query, 9, Filter(attributes={"size": "small"})))[0].hits == ()


@pytest.mark.parametrize("key", KEYS)
def test_a_filter_compares_name_and_value_of_the_same_attribute(store: Store, key: str) -> None:
    others = {other: "red" for other in KEYS if other != key}
    new = [Item("this", "", attributes={key: "red"}), Item("other", "", attributes=others | {key: "blue"})]
    store.upsert(new, np.zeros((2, 2), np.float32))
    assert [item.id for item in store.scan(Filter(attributes={key: "red"}))] == ["this"]


def test_a_store_without_snapshots_cannot_be_joined(store: Store) -> None:
    class Remote:
        """Delegates the methods of `Store`, and none of a capability."""

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
            if name in {"snapshot", "stream", "status"}:
                raise AttributeError(name)
            return getattr(store, name)

    remote: Any = Remote()
    assert not isinstance(remote, Streaming | Snapshotting | Indexable)
    with pytest.raises(UsageError, match="snapshots"):
        take_snapshot(remote)
    if isinstance(store, Snapshotting):
        assert list(take_snapshot(store).ids) == ["kept"]


def test_an_update_changes_only_items_that_are_as_they_were_read(store: Store) -> None:
    (kept,) = store.scan()
    moved = replace(kept, uri="/there", label="cat", signature="1-2-3")
    vectors = store.vectors([kept.id])
    assert store.update([(kept, moved), (Item("none", ""), Item("none", "/x"))]) == [kept]
    assert store.get([kept.id, "none"]) == {kept.id: moved}
    assert np.array_equal(store.vectors([kept.id]), vectors)
    assert store.update([(kept, moved)]) == [kept]  # it was made already
    assert store.update([(kept, replace(kept, uri="/elsewhere")), (kept, None)]) == []
    other = replace(moved, sha256="ff")
    assert store.update([(other, replace(other, uri="/elsewhere"))]) == []
    assert store.get([kept.id]) == {kept.id: moved}
    assert store.update([(moved, None)]) == [moved]
    assert store.count() == 0


def test_an_update_keeps_id_and_content(store: Store) -> None:
    (kept,) = store.scan()
    for other in (replace(kept, id="other"), replace(kept, sha256="other")):
        with pytest.raises(UsageError, match="upsert"):
            store.update([(kept, other)])
    with pytest.raises(UsageError):
        store.update([(kept, replace(kept, uri="\ud800"))])


def test_empty_calls_do_nothing(store: Store) -> None:
    nothing = np.empty((0, 2), np.float32)
    assert store.update([]) == []
    store.upsert([], nothing)
    assert store.delete([]) == 0
    assert store.get([]) == {}
    assert store.vectors([]).shape == (0, 2)
    assert knn(store, nothing, 1) == store.search(range_query(nothing, 1)) == []


def test_more_values_than_one_sql_statement_takes(store: Store) -> None:
    many = [f"{i:05}" for i in range(6000)]
    vectors = np.random.default_rng(0).standard_normal((len(many), 2)).astype(np.float32)
    store.upsert([Item(i, "") for i in many], vectors)
    assert ids(store) == [*many, "kept"]
    assert list(store.get(many)) == many
    assert np.array_equal(store.vectors(many[::-1]), vectors[::-1])
    assert len(store.search(range_query(vectors[:1], 99))[0].hits) == len(many) + 1
    assert store.count(Filter(ids=frozenset(many))) == len(many)
    assert store.delete(many) == len(many)


def test_a_scan_survives_writes_meanwhile(store: Store) -> None:
    store.upsert([Item(f"{i:05}", "") for i in range(6000)], np.zeros((6000, 2), np.float32))
    scan = store.scan()
    first = next(scan)
    store.delete(["05999"])
    store.upsert([Item("05998b", "")], np.zeros((1, 2), np.float32))
    assert [first.id, *(item.id for item in scan)] == [*(f"{i:05}" for i in range(5999)), "05998b", "kept"]


def test_another_process_sees_a_write(kind: Kind, store: Store, tmp_path: Path) -> None:
    other = kind.reopen(tmp_path, PLANE)
    query = np.zeros((1, 2), np.float32)
    assert len(knn(other, query, 9)[0].hits) == 1
    store.upsert([Item("new", "")], query)
    assert [hit.item.id for hit in knn(other, query, 9)[0].hits] == ["new", "kept"]
    other.delete(["kept"])
    assert [hit.item.id for hit in knn(store, query, 9)[0].hits] == ["new"]
    store.upsert([Item("new", "")], query + 3)
    assert knn(other, query + 3, 9)[0].hits[0].distance == 0
    other.close()
