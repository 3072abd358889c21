"""Collections of strangers: nothing outside of the folder is read, written or removed, every call ends, and errors are one line."""

import hashlib
import json
import os
import shutil
import sqlite3
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
import pytest

import image_files
from lookalike import locks
from lookalike.cli import main
from lookalike.collection import Collection
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import LookalikeError, StorageError
from lookalike.folder import Folder
from lookalike.metric import Metric, VectorSpace
from lookalike.query import DistanceRange, Query
from lookalike.server import create_app
from lookalike.stores import IndexSettings, Item, SQLiteStore, open_store
from lookalike.stores.sqlite import array_file
from lookalike.untrusted import databases
from pocket_server import serving
from searching import create_store, knn

SPACE = VectorSpace(Metric.EUCLIDEAN, 48)
QUERY = np.zeros((1, 48), np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, pocket: Path) -> Path:
    """A collection of files and uploads that was searched."""
    folder = tmp_path_factory.mktemp("built")
    image_files.write(folder / "photos", {f"{i}.png": i for i in range(6)})
    with Collection.create(folder / "some.lookalike", pocket) as some:
        some.add(folder / "photos", labels="folder")
        upload = some.add_image(image_files.png(7), "mug", {"by": "me"})
        some.search(image_files.png(1))
        some.folder.thumbnail(upload)
    return folder / "some.lookalike"


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    """A copy, beside a file that nobody may touch."""
    (tmp_path / "victim").write_bytes(b"victim")
    return Path(shutil.copytree(built, tmp_path / "collections" / "some.lookalike"))


@pytest.fixture(autouse=True)
def outside(tmp_path: Path) -> Iterator[None]:
    """Check that nothing was written or removed outside of the collection."""
    yield
    if (tmp_path / "victim").exists() or (tmp_path / "collections").exists():
        assert (tmp_path / "victim").read_bytes() == b"victim"
        assert {p.name for p in tmp_path.iterdir()} <= {"victim", "collections", "elsewhere"}
        assert [p.name for p in (tmp_path / "collections").iterdir()] == ["some.lookalike"]
        if (tmp_path / "elsewhere").is_dir():
            assert list((tmp_path / "elsewhere").iterdir()) == []


def change(path: Path, script: str) -> None:
    """Run SQL on a catalogue as a stranger would."""
    with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
        sql.executescript(script)
        sql.commit()


def use(path: Path) -> None:
    """Open, list, search, add, remove and tune; shorter than a few seconds."""
    began = time.monotonic()
    try:
        with Collection.open(path) as some:
            for call in (
                lambda: [(item, some.folder.thumbnail(item)) for item in some],
                some.store.labels,
                lambda: some.search(image_files.png(3), k=3).to_dict(),
                lambda: some.search(image_files.png(3), within=2.0, label="mug").to_dict(),
                lambda: some.search(image_files.png(3), where={"by": "me"}).to_dict(),
                some.status,
                lambda: list(some.join(k=1)),
                lambda: some.add_image(image_files.png(9)),
                lambda: some.add([image_files.png(10)]),
                lambda: some.remove([item.id for item in some]),
            ):
                with suppress(LookalikeError):
                    call()
            some.search(image_files.png(3), k=3)
    finally:
        assert time.monotonic() - began < 20


TUNING = "CREATE TABLE IF NOT EXISTS tuning (settings TEXT NOT NULL) STRICT"
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)"


@pytest.mark.parametrize(
    "script",
    [
        f"DROP TABLE generation; CREATE VIEW generation AS {ENDLESS} SELECT max(i) AS number, 'x' AS token FROM n;",
        f"DROP TABLE tuning; CREATE VIEW tuning AS {ENDLESS} SELECT max(i) AS settings FROM n;",
        f"DROP TABLE items; CREATE VIEW items AS {ENDLESS} SELECT i AS seq, '' AS id, '' AS uri, '{{}}' AS attributes FROM n;",
        f"DROP TABLE vectors; CREATE VIEW vectors AS {ENDLESS} SELECT i AS seq, zeroblob(192) AS vector FROM n;",
        "CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM vectors; END;",
        f"CREATE TRIGGER t AFTER UPDATE ON generation BEGIN INSERT INTO generation {ENDLESS} SELECT i, i FROM n; END;",
        "CREATE TABLE other (x);",
        "CREATE INDEX other ON items (uri);",
        "CREATE INDEX other ON items (length(zeroblob(100000000)));",
        "ALTER TABLE items ADD COLUMN more TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000000))) VIRTUAL;",
        "ALTER TABLE items ADD COLUMN more TEXT DEFAULT 'x';",
        "ALTER TABLE generation ADD COLUMN more TEXT;",
        "DROP INDEX items_by_label;",
        "DROP TABLE vectors;",
        "DROP TABLE generation;",
        "CREATE VIRTUAL TABLE other USING fts5(x);",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'uri TEXT', 'uri INT') WHERE name = 'items';",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', 'NOT NULL CHECK (1)');",
    ],
)
def test_a_catalogue_with_anything_but_its_own_tables_is_refused(path: Path, script: str) -> None:
    change(path, f"{TUNING}; {script}")
    with pytest.raises(StorageError, match=r"catalog.sqlite is damaged: (it has an unknown|it lacks the|malformed)"):
        use(path)


@pytest.mark.parametrize(
    "script",
    [
        "DELETE FROM generation",
        "UPDATE generation SET token = '/../../../x'",
        "UPDATE generation SET token = '../../../../victim'",
        "UPDATE generation SET token = upper(token)",
        "UPDATE generation SET token = token || char(10)",
        "UPDATE generation SET token = ''",
        "UPDATE generation SET number = -1",
        "UPDATE generation SET number = 9223372036854775807",
        "UPDATE vectors SET vector = zeroblob(4000000)",
        "UPDATE vectors SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB)",
        "UPDATE vectors SET vector = CAST(x'0000807f' || substr(vector, 5) AS BLOB)",
        "UPDATE vectors SET seq = seq + 100",
        "DELETE FROM vectors",
        """INSERT INTO tuning VALUES ('{"budget": 0, "built": "/../../../victim"}')""",
        "INSERT INTO tuning VALUES ('" + "[" * 100_000 + "')",
        """INSERT INTO tuning VALUES ('{"budget": """ + "9" * 6000 + "}')",
    ],
)
def test_a_damaged_catalogue_is_reported_in_one_line(path: Path, script: str) -> None:
    change(path, f"{TUNING}; {script}")
    shutil.rmtree(path / "cache")
    with Collection.open(path) as some, pytest.raises(StorageError, match="damaged") as caught:
        some.search(image_files.png(3), k=100)
    assert "\n" not in str(caught.value)
    with suppress(StorageError):
        use(path)


@pytest.mark.parametrize(
    "value",
    [
        "sha256 = '../../../../victim'",
        "sha256 = 'é' || char(10)",
        "attributes = '" + "[" * 100_000 + "'",
        'attributes = \'{"a": ' + "9" * 6000 + "}'",
        "attributes = '{\"a\": 1}'",
        'attributes = \'{"a": {"a": "b"}}\'',
        "attributes = '[\"a\"]'",
        "attributes = 'null'",
        "attributes = '\"text\"'",
        "attributes = ''",
        "attributes = json_object('a', hex(zeroblob(600000)))",
        "label = hex(zeroblob(600000))",
        'attributes = \'{"a": "\\ud800"}\'',
        "uri = CAST(x'ff41' AS TEXT)",
        "label = CAST(x'ff' AS TEXT)",
        "id = CAST(x'ff' AS TEXT) || id",
        "uri = CAST(x'4100' AS TEXT)",
    ],
)
def test_a_damaged_item_is_reported_in_one_line(path: Path, value: str) -> None:
    change(path, f"UPDATE items SET {value}")
    with Collection.open(path) as some:
        with pytest.raises(StorageError, match="damaged") as caught:
            list(some)
        assert "\n" not in str(caught.value)
        with pytest.raises(LookalikeError):
            some.search(image_files.png(3), k=100)


def test_the_vector_of_an_item_that_is_not_a_number_is_reported(path: Path) -> None:
    change(path, "UPDATE vectors SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB)")
    with Collection.open(path) as some, pytest.raises(StorageError, match="not finite"):
        some.search(item=next(iter(some)).id)


def test_rows_that_share_their_place_in_the_file_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_FREE_BYTES", 2**12)
    with closing(databases.connect(path / "catalog.sqlite", "", optional=_schema(path))) as sql:
        assert len(list(sql.rows("SELECT * FROM items"))) == 7
        with pytest.raises(databases.UnsafeDatabaseError, match="more bytes"):
            list(sql.rows(f"{ENDLESS} SELECT hex(zeroblob(1000)) FROM n"))


@pytest.mark.parametrize("statement", [f"{ENDLESS} SELECT count(*) FROM n", f"{ENDLESS} SELECT max(i) FROM n"])
def test_a_statement_without_an_end_is_interrupted(path: Path, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    monkeypatch.setattr(databases, "_FREE_STEPS", 10**6)
    with closing(databases.connect(path / "catalog.sqlite", "", optional=_schema(path))) as sql:
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                sql.execute(statement).fetchall()
            assert sql.execute("SELECT count(*) FROM items").fetchone() == (7,)


def _schema(path: Path) -> str:
    with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
        return ";".join(row[0] for row in sql.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_a_catalogue_with_other_comments_and_white_space_is_opened(path: Path) -> None:
    """Earlier versions wrote other comments."""
    change(
        path,
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(replace(sql, '-- never', '--  other,'), '    ',"
        " char(9)) WHERE name = 'items';",
    )
    use(path)


# ---- links and other files


@pytest.mark.parametrize(
    "name", ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "catalog.sqlite-journal"]
)
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_a_catalogue_is_a_file_and_not_a_link(path: Path, tmp_path: Path, name: str, kind: str) -> None:
    (path / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path / name)
    elif kind == "folder":
        (path / name).mkdir()
    else:
        (path / name).symlink_to(tmp_path / ("victim" if kind == "link" else "nothing"))
    with pytest.raises(StorageError, match=r"link|device"):
        use(path)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_hard_link_beside_a_database_is_not_overwritten(path: Path, tmp_path: Path, suffix: str) -> None:
    """The fixture `outside` checks the other name."""
    for name in ("catalog.sqlite", "images.lock"):
        linked = path / f"{name}{suffix}"
        linked.unlink(missing_ok=True)
        linked.hardlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match=rf"catalog.sqlite{suffix} is a hard link.*\. Copy the folder") as error:
        Collection.open(path)
    assert "damaged" not in str(error.value)
    with pytest.raises(StorageError, match=rf"images.lock{suffix} is a hard link.*\. Copy the folder") as error:
        locks.exclusive(path / "images.lock").__enter__()
    assert "Delete" not in str(error.value)


def test_the_copy_of_a_collection_with_hard_links_opens(path: Path, tmp_path: Path) -> None:
    path.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", path, copy_function=os.link)
    with pytest.raises(StorageError, match="hard link"):
        Collection.open(path)
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "elsewhere", path)
    use(path)
    shutil.rmtree(tmp_path / "elsewhere")


def super_journal(path: Path, victim: Path) -> bytes:
    """Make a rollback journal that names another file, which SQLite deletes after it has used the journal."""
    magic = bytes.fromhex("d9d505f920a163d7")
    page = (path / "catalog.sqlite").read_bytes()[:4096]
    pages = (path / "catalog.sqlite").stat().st_size // 4096
    nonce = 0
    checksum = (nonce + sum(page[i] for i in range(4096 - 200, 0, -200))) & 0xFFFFFFFF
    header = (magic + struct.pack(">IIIII", 1, nonce, pages, 512, 4096)).ljust(512, b"\0")
    name = os.fsencode(victim)
    record = struct.pack(">I", 1) + page + struct.pack(">I", checksum)
    end = (
        struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name) & 0xFFFFFFFF) + magic
    )
    return header + record + end


def test_a_journal_that_names_another_file_is_refused(path: Path, tmp_path: Path) -> None:
    schema = _schema(path)
    for name in ("catalog.sqlite", "images.lock"):
        (path / f"{name}-journal").write_bytes(super_journal(path, tmp_path / "victim"))
        with pytest.raises(sqlite3.DatabaseError, match="journal names another file"):
            databases.connect(path / name, schema)
    with pytest.raises(StorageError, match="journal names another file"):
        Collection.open(path)
    with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
        sql.execute("SELECT 1 FROM items")
    assert not (tmp_path / "victim").exists()  # so the journal would have done harm
    (tmp_path / "victim").write_bytes(b"victim")


@pytest.mark.parametrize("name", ["cache", "cache/thumbnails", "images"])
def test_no_folder_of_a_collection_may_be_a_link(path: Path, tmp_path: Path, name: str) -> None:
    shutil.rmtree(path / name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (path / name).symlink_to(elsewhere)
    if name == "images":
        with pytest.raises(StorageError, match="links"), Collection.open(path) as some:
            some.add_image(image_files.png(11))
    else:
        use(path)


@pytest.mark.parametrize("name", ["encoder", "encoder/photo.onnx", "encoder/encoder.json", "manifest.json"])
def test_an_encoder_that_is_a_link_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    (path / name).rename(path / "moved")
    (path / name).symlink_to(path / "moved")
    with pytest.raises(LookalikeError, match="link"):
        Collection.open(path)


def test_files_of_the_cache_that_are_links_are_not_read(path: Path, tmp_path: Path) -> None:
    for file in [file for file in (path / "cache").rglob("*") if file.is_file()]:
        file.unlink()
        file.symlink_to(tmp_path / "victim")
    use(path)


# ---- the cache


def matrix(path: Path) -> Path:
    (only,) = (path / "cache").glob("matrix-*")
    return only


@pytest.mark.parametrize(
    "places",
    [
        {"vectors": [0, "|O", [7, 48]]},
        {"vectors": [0, "|O8", [7, 48]]},
        {"vectors": [0, "<f4", [2**40, 48]]},
        {"vectors": [0, "<f4", [-7, -48]]},
        {"vectors": [-64, "<f4", [7, 48]]},
        {"vectors": [2**70, "<f4", [7, 48]]},
        {"vectors": [0, "<f4", ["7", 48]]},
        {"vectors": [0, "<f4", [1, 1, 1, 1, 1, 1, 7, 48]]},
        {"vectors": [0, 4, 4]},
        {"vectors": None},
        {"seqs": [0, "<f8", [7]]},
        {"norms": [0, "<f4", [7]]},
        [],
    ],
)
def test_a_cache_that_claims_strange_arrays_is_made_again(path: Path, places: object) -> None:
    content = matrix(path).read_bytes()
    size, _ = struct.unpack("<QQ", content[-20:-4])
    sums = content[size : size + 4 * -(-size // 2**16)]
    head = json.loads(content[size + len(sums) : -28])
    head["arrays"] = head["arrays"] | places if isinstance(places, dict) else places
    tail = sums + json.dumps(head).encode()
    end = struct.pack("<8sQQI", b"lookarr1", size, len(tail), zlib.crc32(tail))
    matrix(path).write_bytes(content[:size] + tail + end)
    with Collection.open(path) as some:
        assert some.search(image_files.png(3), k=1)[0].distance == pytest.approx(0, abs=1e-5)
    assert matrix(path).read_bytes() == content


def test_a_cache_with_other_items_or_without_numbers_is_reported(path: Path) -> None:
    metadata, arrays = array_file.read(matrix(path)) or pytest.fail("no matrix")
    for name, value in (("seqs", arrays["seqs"] + 100), ("vectors", np.full_like(arrays["vectors"], np.nan))):
        array_file.write(matrix(path), metadata, arrays | {name: value})
        with Collection.open(path) as some, pytest.raises(StorageError, match=r"Delete .*cache"):
            some.search(image_files.png(3), k=3)


def test_a_thumbnail_is_not_read_or_written_by_a_strange_name(path: Path) -> None:
    with Collection.open(path) as some:
        item = next(iter(some))
        for digest in ("", "x", "../../../victim", "A" * 64):
            thumbnail = some.folder.thumbnail(Item(item.id, item.uri, sha256=digest))
            assert thumbnail.startswith(b"\xff\xd8")
        assert len(list((path / "cache" / "thumbnails").iterdir())) == 1


# ---- an approximate index

INDEX_SPACE = VectorSpace(Metric.EUCLIDEAN, 8)


@pytest.fixture(scope="module")
def built_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "indexed.lookalike"
    with closing(create_store(folder, INDEX_SPACE)) as store:
        vectors = np.random.default_rng(0).standard_normal((1200, 8)).astype(np.float32)
        store.upsert([Item(f"{i:05}", "") for i in range(1200)], vectors)
        store.tune(lambda now: now.model_copy(update={"budget": 0}))
        assert store.build_index()
    return folder


@pytest.fixture
def indexed(built_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_index, tmp_path / "indexed.lookalike"))


def index_file(path: Path) -> Path:
    (only,) = (file for file in (path / "cache").glob("index-*") if file.suffix != ".checked")
    return only


def resigned(content: bytes, key: bytes | None) -> bytes:
    """Give a changed index file valid checksums, as a stranger would, and sign it with a key."""
    size, _ = struct.unpack("<QQ", content[-20:-4])
    body = np.frombuffer(content[:size], np.uint8)
    sums = array_file._checksums(body).tobytes()
    head = json.loads(content[size + len(sums) : -28])
    head.pop("signature", None)
    if key is not None:
        head["signature"] = array_file._sign(key, body, head)
    tail = sums + json.dumps(head).encode()
    return content[:size] + tail + struct.pack("<8sQQI", b"lookarr1", size, len(tail), zlib.crc32(tail))


@pytest.mark.parametrize(
    ("change_at", "key"), [(None, None), (None, b"x" * 32), (4, None), (40, b"x" * 32), (1000, None)]
)
def test_an_index_that_this_user_did_not_build_is_not_read(
    indexed: Path, monkeypatch: pytest.MonkeyPatch, change_at: int | None, key: bytes | None
) -> None:
    file = index_file(indexed)
    content = bytearray(file.read_bytes())
    if change_at is not None:
        content[change_at : change_at + 8] = struct.pack("<Q", 2**39)
    file.write_bytes(resigned(bytes(content), key))
    identity = array_file._identity(file)
    assert identity is not None
    for note in (
        identity,
        hashlib.blake2b(identity).hexdigest().encode(),
        hashlib.blake2b(identity, key=b"x").digest(),
    ):
        file.with_name(f"{file.name}.checked").write_bytes(note)
        with closing(SQLiteStore.open(indexed, INDEX_SPACE)) as store:
            assert knn(store, np.zeros((1, 8), np.float32), 3)[0].exact
    with closing(SQLiteStore.open(indexed, INDEX_SPACE)) as store:
        assert store.status().due
        assert store.build_index()
        assert not knn(store, np.zeros((1, 8), np.float32), 3)[0].exact


def test_the_index_of_another_user_is_not_read(indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_exact() -> bool:
        with closing(SQLiteStore.open(indexed, INDEX_SPACE)) as store:
            return knn(store, np.zeros((1, 8), np.float32), 3)[0].exact

    assert not is_exact()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other user"))
    assert is_exact()


def test_without_a_state_folder_no_index_is_built(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with closing(SQLiteStore.open(indexed, INDEX_SPACE)) as store, pytest.raises(StorageError, match=r"key .*file"):
        store.build_index()


def test_an_index_that_faiss_cannot_hold_in_memory_is_ignored(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("lookalike.ann.read", fail)
    with closing(SQLiteStore.open(indexed, INDEX_SPACE)) as store:
        assert knn(store, np.zeros((1, 8), np.float32), 3)[0].exact


# ---- random damage


def flip_bytes(file: Path, generator: np.random.Generator) -> None:
    """Change some bytes of a file; often in its first page, which has the schema and the settings."""
    content = bytearray(file.read_bytes())
    end = len(content) if generator.integers(2) else min(len(content), 4096)
    for at in generator.integers(end, size=generator.integers(1, 30)):
        content[at] = generator.integers(256)
    file.write_bytes(content)


def change_rows(path: Path, generator: np.random.Generator) -> None:
    """Put values of any type into random rows, as no table of this schema would accept them."""
    table, columns = [
        ("items", ("id", "uri", "label", "attributes", "sha256", "signature")),
        ("vectors", ("vector", "seq")),
        ("generation", ("number", "token")),
        ("tuning", ("settings",)),
    ][generator.integers(4)]
    values = (
        *(
            None,
            0,
            -1,
            2**62,
            1e300,
            float("nan"),
            "",
            "\0",
            "../../../victim",
            "é" * 1000,
            b"",
            b"\xff\xfe",
            bytes(192),
        ),
        *(
            "[" * 10_000,
            "{}",
            '{"a": 1}',
            '{"budget": 1e999}',
            '{"built": "../x"}',
            "000000000001-" + "0" * 16,
            "9" * 6000,
        ),
    )
    with closing(sqlite3.connect(path / "catalog.sqlite")) as sql, suppress(sqlite3.Error):
        original = sql.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()[0]
        edit = "UPDATE sqlite_master SET sql = ? WHERE name = ?"
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute(edit, [original.replace("STRICT", "").replace("NOT NULL", ""), table])
        sql.commit()
        sql.execute("PRAGMA writable_schema = RESET")
        column = columns[generator.integers(len(columns))]
        statement = f"UPDATE {table} SET {column} = ? WHERE rowid % ? = 0"
        sql.execute(statement, [values[generator.integers(len(values))], int(generator.integers(1, 4))])
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute(edit, [original, table])
        sql.commit()


def edit_json(file: Path, generator: np.random.Generator) -> None:
    """Put strange values into a JSON file."""
    tree = json.loads(file.read_text(encoding="utf-8"))
    key = list(tree)[generator.integers(len(tree))]
    values: tuple[object, ...] = (
        None,
        -1,
        10**40,
        1e300,
        "",
        "../../x",
        [[]] * 9,
        {"a": {}},
        "é\n" * 99,
        True,
        "euclidean",
        "milvus://x",
    )
    tree[key] = values[generator.integers(len(values))]
    text = json.dumps(tree)
    deep = generator.integers(6) == 0
    file.write_text("[" * 100_000 if deep else text, encoding="utf-8")


def damage(path: Path, generator: np.random.Generator) -> None:
    files = [path / "catalog.sqlite", *(file for file in (path / "cache").rglob("*") if file.is_file())]
    match generator.integers(6):
        case 0 | 1:
            flip_bytes(path / "catalog.sqlite", generator)
        case 2:
            flip_bytes(files[generator.integers(len(files))], generator)
        case 3:
            edit_json(path / "manifest.json", generator)
        case _:
            change_rows(path, generator)
    if generator.integers(3):
        shutil.rmtree(path / "cache")


def try_everything(path: Path, embedder: Embedder) -> None:
    """Call what reads and writes a collection, without loading its encoder each time."""
    with suppress(LookalikeError):
        folder = Folder.open(path)
        store = open_store(folder.manifest.store or folder.path, folder.manifest.space)
        with Collection(folder, store, embedder) as some:
            image = image_files.png(3)
            for call in (
                lambda: [some.folder.thumbnail(item) for item in some],
                lambda: json.dumps(some.search(image, k=3).to_dict(), allow_nan=False),
                lambda: json.dumps(some.search(image, within=2.0, label="mug").to_dict(), allow_nan=False),
                lambda: some.search(image, where={"by": "me"}),
                lambda: [part.to_dict() for part in some.stream(Query(images=(image,), within=DistanceRange(0, 9)))],
                lambda: some.classify(image),
                some.store.labels,
                some.status,
                lambda: list(some.join(k=2)),
                lambda: some.add_image(image_files.png(9)),
                lambda: some.add([image_files.png(10)]),
                lambda: some.remove([item.id for item in islice(some, 3)]),
                lambda: some.search(image, k=100),
                lambda: some.tune(IndexSettings(budget=3)),
            ):
                with suppress(LookalikeError):
                    call()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, about numbers that are not finite
@pytest.mark.parametrize(
    "seeds",
    [range(25), pytest.param(range(25, 250), marks=[pytest.mark.slow, pytest.mark.no_cover])],
    ids=["few", "many"],
)
def test_random_damage_causes_only_errors_of_lookalike(built: Path, tmp_path: Path, pocket: Path, seeds: range) -> None:
    (tmp_path / "victim").write_bytes(b"victim")
    embedder = Embedder.of(Encoder.open(pocket))
    path = tmp_path / "collections" / "some.lookalike"
    for seed in seeds:
        shutil.copytree(built, path)
        change(path, f"{TUNING}; INSERT INTO tuning VALUES ('{{}}')")
        damage(path, np.random.default_rng(seed))
        began = time.monotonic()
        try:
            try_everything(path, embedder)
        except Exception as e:
            e.add_note(f"seed {seed}")
            raise
        assert time.monotonic() - began < 60, seed
        shutil.rmtree(path)
    shutil.copytree(built, path)


# ---- over HTTP and on the command line


@pytest.mark.parametrize(
    "script",
    [
        "DELETE FROM generation",
        "UPDATE generation SET token = '/../../../victim'",
        "UPDATE vectors SET vector = x'00'",
        "UPDATE items SET sha256 = 'é' || char(10)",
        "UPDATE items SET attributes = '{\"a\": 1}'",
        "UPDATE items SET label = CAST(x'ff' AS TEXT)",
        "UPDATE items SET uri = 'images/../../../victim'",
    ],
)
def test_a_damaged_collection_is_served_with_problem_details(path: Path, script: str) -> None:
    with Collection.open(path) as some:
        ident = next(iter(some)).id
    change(path, script)
    shutil.rmtree(path / "cache")
    base = "/api/collections/some"
    with (
        Collection.open(path) as some,
        serving(create_app([some])) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        answers = [
            client.get("/api/collections"),
            client.get(f"{base}/items"),
            client.get(f"{base}/items?shuffle=1"),
            client.get(f"{base}/items/{ident}"),
            client.get(f"{base}/items/{ident}/image"),
            client.get(f"{base}/items/{ident}/thumbnail"),
            client.post(f"{base}/search", json={"item": ident, "k": 3}),
            client.post(f"{base}/search", files={"image": image_files.png(1)}, data={"k": "3"}),
            client.post(f"{base}/classify", files={"image": image_files.png(1)}),
            client.delete(f"{base}/items/{ident}"),
            client.get("/health"),
        ]
    assert any(answer.is_error for answer in answers)
    for answer in answers:
        assert b"victim" not in answer.content or "uri" in script
        if answer.is_error:
            assert answer.headers["content-type"] == "application/problem+json", answer.content
            assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("script", ["DELETE FROM generation", "UPDATE items SET label = CAST(x'ff' AS TEXT)"])
def test_a_damaged_collection_is_one_line_in_a_terminal(
    path: Path, script: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(path, script)
    shutil.rmtree(path / "cache")
    photo = path.parent / "photo.png"
    photo.write_bytes(image_files.png(1))
    try:
        for arguments in (["search", str(path), str(photo)], ["join", str(path), "-k", "1"], ["info", str(path)]):
            monkeypatch.setattr("sys.argv", ["lookalike", *arguments])
            with suppress(SystemExit):
                main()
            out, err = capsys.readouterr()
            assert "Traceback" not in out + err
            assert not err or (err.startswith("Error: ") and err.count("\n") == 1)
    finally:
        photo.unlink()
