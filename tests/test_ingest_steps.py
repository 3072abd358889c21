"""The steps of ingest, one by one: plan, read, embed, write; and images in memory."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

import image_files
from lookalike import images
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import DataError, EncoderError, LookalikeError, NotFoundError, UsageError
from lookalike.ingest import Added, Entry, Failure, add, file_id, plan
from lookalike.ingest.embed import EmbeddingQueue
from lookalike.ingest.known import Known
from lookalike.ingest.read import Read, read
from lookalike.ingest.write import Pending, count_ready, write
from lookalike.stores import Item

# ---- plan


def test_a_plan_takes_a_folder_a_file_and_a_sequence(tmp_path: Path) -> None:
    image_files.write(tmp_path, {"a.png": 1, "b/c.png": 2})
    a, c = tmp_path / "a.png", tmp_path / "b" / "c.png"
    for folder in (tmp_path, str(tmp_path)):
        assert [entry.path for entry in plan(folder)] == [a, c]
    for file in (a, str(a), [a], (str(a),)):
        assert [(entry.path, entry.image) for entry in plan(file)] == [(a, None)]
    assert [(entry.path, entry.label) for entry in plan([c, str(a)], labels=["cat", None])] == [(c, "cat"), (a, None)]
    assert plan([]) == []


def test_a_plan_names_images_in_memory_by_their_position(tmp_path: Path) -> None:
    data, array = image_files.png(1), np.zeros((4, 4, 3), np.uint8)
    image = Image.fromarray(array)
    for source in (data, array, image):
        (entry,) = plan(source)
        assert entry.image is source
        assert str(entry.path) == "#1"
    mixed = plan([tmp_path / "a.png", data, image], labels=["x", "y", "z"])
    assert [str(entry.path) for entry in mixed] == [str(tmp_path / "a.png"), "#2", "#3"]
    assert [entry.label for entry in mixed] == ["x", "y", "z"]


def test_a_plan_keeps_entries_and_may_label_them(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "a.png", "cat", {"colour": "red"}, "id")
    assert plan([entry]) == [entry]
    (labelled,) = plan([entry], labels=["dog"])
    assert (labelled.label, labelled.attributes, labelled.id) == ("dog", {"colour": "red"}, "id")


def test_labels_that_do_not_fit_the_source_are_refused(tmp_path: Path) -> None:
    image_files.write(tmp_path, {"a.png": 1})
    with pytest.raises(UsageError, match="not a folder"):
        plan(tmp_path / "a.png", labels="folder")
    with pytest.raises(UsageError, match="for a folder"):
        plan([tmp_path / "a.png"], labels="folder")
    with pytest.raises(UsageError, match="CSV"):
        plan(tmp_path, labels=["cat"])
    with pytest.raises(UsageError, match="2 labels for 1 images"):
        plan([tmp_path / "a.png"], labels=["cat", "dog"])
    with pytest.raises(NotFoundError):
        plan(tmp_path / "nowhere")


def test_another_type_is_refused() -> None:
    wrong: list[Any] = [[None], [1.5], [["a.png"]]]
    for source in wrong:
        with pytest.raises((UsageError, TypeError)) as caught:
            plan(source)
        assert isinstance(caught.value, UsageError) or "type" in str(caught.value).lower()  # the tests check types too


def test_a_csv_names_images_under_the_folder_only(tmp_path: Path) -> None:
    image_files.write(tmp_path / "photos", {"a.png": 1})
    (tmp_path / "labels.csv").write_text("path,label\nb.png,cat\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.png"):
        plan(tmp_path / "photos", tmp_path / "labels.csv")


# ---- read


@pytest.fixture
def shop(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as collection:
        yield collection


def test_read_decodes_new_images_and_returns_errors(shop: Collection, tmp_path: Path) -> None:
    known = Known({}, {})
    image_files.write(tmp_path, {"a.png": 1})
    result = read(Entry(tmp_path / "a.png", "cat"), known, shop.embedder)
    assert isinstance(result, Read)
    assert (result.item.id, result.item.label) == (file_id(tmp_path / "a.png"), "cat")
    np.testing.assert_array_equal(result.fitted, images.load(tmp_path / "a.png", 32))
    assert isinstance(read(Entry(tmp_path / "none.png"), known, shop.embedder), NotFoundError)
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert isinstance(read(Entry(tmp_path / "bad.png"), known, shop.embedder), LookalikeError)


def test_read_does_not_decode_a_known_content(shop: Collection, tmp_path: Path) -> None:
    image_files.write(tmp_path, {"a.png": 1})
    content = images.fingerprint(image_files.png(1))
    for known in (Known({}, {content: "x"}), Known({}, {}, {content: np.zeros(48)})):
        result = read(Entry(tmp_path / "a.png"), known, shop.embedder)
        assert isinstance(result, Read)
        assert result.fitted is None
        assert result.item.sha256 == content


def test_an_item_keeps_its_label_unless_the_entry_has_one(shop: Collection, tmp_path: Path) -> None:
    image_files.write(tmp_path, {"a.png": 1})
    old = Item(file_id(tmp_path / "a.png"), str(tmp_path / "a.png"), "cat", {"colour": "red"})
    known = Known({old.id: old}, {})
    for entry, expected in (
        (Entry(tmp_path / "a.png"), ("cat", {"colour": "red"})),
        (Entry(tmp_path / "a.png", "dog"), ("dog", {})),
        (Entry(tmp_path / "a.png", None, {"size": "XL"}), (None, {"size": "XL"})),
    ):
        result = read(entry, known, shop.embedder)
        assert isinstance(result, Read)
        assert (result.item.label, result.item.attributes) == expected


# ---- embed


def fitted(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


def means(batch: np.ndarray) -> np.ndarray:
    return np.asarray(batch.reshape(len(batch), -1).mean(axis=1, keepdims=True))


def test_the_queue_embeds_in_batches_and_lists_unfinished_images() -> None:
    vectors: dict[str, np.ndarray] = {}
    with ThreadPoolExecutor(2) as threads:
        queue = EmbeddingQueue(means, threads, vectors)
        for i in range(5):
            queue.put(str(i), fitted(i))
        assert (queue.waiting, queue.unfinished) == (5, set("01234"))
        queue.submit()
        queue.submit()  # nothing waits
        assert queue.waiting == 0
        queue.collect(0)
    assert {name: vector.tolist() for name, vector in vectors.items()} == {str(i): [i] for i in range(5)}
    assert queue.unfinished == set()


def test_a_shut_down_queue_keeps_started_batches_and_drops_the_rest() -> None:
    vectors: dict[str, np.ndarray] = {}
    begun, go_on = Event(), Event()

    def slow(batch: np.ndarray) -> np.ndarray:
        begun.set()
        assert go_on.wait(30)
        return means(batch)

    threads = ThreadPoolExecutor(1)
    queue = EmbeddingQueue(slow, threads, vectors)
    for i in range(2):
        queue.put(str(i), fitted(i))
        queue.submit()
    queue.put("2", fitted(2))
    assert begun.wait(30)
    threading.Timer(0.05, go_on.set).start()
    queue.shut_down()
    assert set(vectors) == {"0"}
    assert queue.unfinished == set()


def test_the_queue_raises_errors_of_the_encoder() -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise EncoderError("broken")

    with ThreadPoolExecutor(1) as threads:
        queue = EmbeddingQueue(fail, threads, {})
        queue.put("a", fitted(0))
        queue.submit()
        with pytest.raises(EncoderError):
            queue.collect(0)
        queue.shut_down()


# ---- write


def pending(ident: str, content: str) -> Pending:
    return Pending(Entry(Path(ident)), Item(ident, ident, sha256=content))


def test_items_are_ready_up_to_the_first_unfinished_one() -> None:
    items = [pending("a", "1"), pending("b", "2"), pending("c", "3")]
    assert [count_ready(items, unfinished) for unfinished in (set(), {"3"}, {"2", "3"}, {"1"})] == [3, 2, 1, 0]
    assert count_ready([], {"1"}) == 0


def vector(value: float) -> np.ndarray:
    return np.full(48, value, np.float32)


def test_write_takes_vectors_from_this_run_and_from_the_store(shop: Collection) -> None:
    shop.store.upsert([Item("old", "old", sha256="1")], vector(1)[None])
    known = Known.of(shop.store)
    known.rows["2"] = vector(2)
    assert write(shop.store, [pending("a", "1"), pending("b", "2"), pending("old", "2")], known) == []
    assert shop.store.vectors(["a", "b", "old"])[:, 0].tolist() == [1, 2, 2]
    assert "1" in known  # its first holder is overwritten, its new one is not
    assert known.items["old"].sha256 == "2"


def test_write_returns_items_without_a_vector(shop: Collection) -> None:
    shop.store.upsert([Item("old", "old", sha256="1")], vector(1)[None])
    known = Known.of(shop.store)
    shop.store.delete(["old"])
    (lost,) = write(shop.store, [pending("a", "1")], known)
    assert lost.item.id == "a"
    assert shop.store.count() == 0


# ---- images in memory


def test_images_in_memory_are_kept_and_embedded_once(shop: Collection) -> None:
    data, array = image_files.png(1), np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    sources: list[images.ImageSource] = [data, array, Image.fromarray(array), data]
    added = add(shop.store, shop.embedder, plan(sources, ["png", "array", "image", None]), keeper=shop.folder)
    assert added == Added(embedded=2, reused=2)
    items = {item.label: item for item in shop.store.scan()}
    assert set(items) == {None, "image"}
    for item in items.values():
        content = (shop.path / item.uri).read_bytes()
        assert images.fingerprint(content) == item.sha256
        expected = shop.embedder.embed([content])
        assert np.allclose(shop.store.vectors([item.id]), expected, atol=1e-6)
    (shop.path / items["image"].uri).unlink()
    again = add(shop.store, shop.embedder, plan(sources[:2]), keeper=shop.folder)
    assert again == Added(unchanged=2)
    assert (shop.path / items["image"].uri).exists()
    assert {item.label for item in shop.store.scan()} == {None, "image"}


def test_a_bad_image_in_memory_is_reported_by_its_position(shop: Collection) -> None:
    sources: list[images.ImageSource] = [image_files.png(1), b"no image", np.zeros((0, 3), np.uint8)]
    added = add(shop.store, shop.embedder, plan(sources), keeper=shop.folder)
    assert (added.embedded, added.failed, added.total) == (1, 2, 3)
    assert [str(failure.path) for failure in added.failures] == ["#2", "#3"]
    assert all(f"Image {failure.path}" in failure.reason for failure in added.failures[:1])


def test_an_image_in_memory_needs_a_keeper(shop: Collection) -> None:
    with pytest.raises(UsageError, match="in memory"):
        add(shop.store, shop.embedder, plan(image_files.png(1)))


def test_a_result_is_printed_as_one_line() -> None:
    assert str(Added(embedded=1234)) == "1,234 embedded"
    failures = (Failure(Path("a.png"), "broken"),)
    assert str(Added(1, 2, 3, failures)) == "1 embedded, 2 reused, 3 unchanged, 1 failed"
