"""Search by text: the text branch of encoders, its tokenizer, and the small CLIP of `tiny_clip`."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

import lookalike as la
import pocket_encoder
import tiny_clip
from lookalike.cli import main
from lookalike.collection import Collection
from lookalike.encoders import Encoder, process
from lookalike.encoders.artefact import _contract
from lookalike.encoders.network import Network
from lookalike.errors import EncoderError, MissingExtraError, UsageError
from lookalike.query import MAX_TEXT, Query
from lookalike.server import create_app
from pocket_server import serving


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of the pocket encoder, with its text branch."""
    return pocket_encoder.make(tmp_path_factory.mktemp("encoders") / "reader", ("photo", "sketch", "text"))


@pytest.fixture
def folder(tmp_path: Path, reader: Path) -> Path:
    return Path(shutil.copytree(reader, tmp_path / "reader"))


@pytest.fixture(scope="module")
def colours(reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """A collection with an image of each colour."""
    folder = tmp_path_factory.mktemp("colours")
    (folder / "images").mkdir()
    for name, colour in pocket_encoder.COLOURS.items():
        Image.new("RGB", (32, 32), tuple(255 * c for c in colour)).save(folder / "images" / f"{name}.png")
    collection = Collection.create(folder / "colours", encoder=reader)
    collection.add(folder / "images")
    return collection


@pytest.fixture
def own(colours: Collection, tmp_path: Path) -> Path:
    """A copy of the collection."""
    return Path(shutil.copytree(colours.path, tmp_path / "own.lookalike"))


# ---- a CLIP


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.make(tmp_path_factory.mktemp("clip") / "clip")


@pytest.mark.slow
def test_a_clip_finds_what_a_text_describes(clip: Path, tmp_path: Path) -> None:
    products = tiny_clip.products(120, seed=99)  # none of those that it was trained on
    (tmp_path / "images").mkdir()
    for product in products:
        product.photo(tiny_clip.SIZE).save(tmp_path / "images" / f"{product.attributes['colour']}_{product.id}.png")
    with la.open(tmp_path / "shop", encoder=clip) as shop:
        shop.add(tmp_path / "images")
        names = [f"{p.attributes['colour']} {p.label}" for p in products]
        texts = sorted(set(names))
        precisions = []
        for text, answer in zip(texts, shop.search(text=[f"A {t}" for t in texts], k=len(products)), strict=True):
            relevant = names.count(text)
            found = [hit.item.name.replace("_", " ").startswith(text) for hit in answer]
            precisions.append(np.mean(found[:relevant]))
    # A random order has a thirty-sixth.
    assert len(texts) > 30
    assert np.mean(precisions) > 0.8


@pytest.mark.slow
def test_the_process_gives_what_the_network_gives(clip: Path) -> None:
    encoder = Encoder.open(clip)
    direct = Network(
        (clip / "text.onnx").read_bytes(), _contract(encoder.card, "text"), (clip / "tokenizer.json").read_bytes()
    )
    texts = ["a red mug", "blue sofa", "RED MUG", "a photo of a " + "white " * 50]
    assert np.array_equal(encoder.embed_texts(texts), direct.run(texts, 1))


# ---- the branch


def test_texts_are_embedded(reader: Path) -> None:
    encoder = Encoder.open(reader)
    red, both, unknown = encoder.embed_texts(["Red", "red green", "grün"])
    grid = red.reshape(3, -1)
    assert np.allclose(grid[0], grid[0, 0])
    assert grid[0, 0] > 50 * grid[1, 0]
    assert np.isclose(both.reshape(3, -1)[0, 0], both.reshape(3, -1)[1, 0])
    assert np.allclose(unknown, unknown[0])
    assert encoder.embed_texts([]).shape == (0, 48)


def test_a_long_text_is_cut_to_the_tokens_of_the_network(reader: Path) -> None:
    encoder = Encoder.open(reader)
    cut, whole = encoder.embed_texts(["red " * pocket_encoder.TOKENS + "blue " * 20, "red"])
    assert np.allclose(cut, whole)


def test_many_texts_are_embedded_in_order(colours: Collection) -> None:
    texts = [list(pocket_encoder.COLOURS)[i % 6] for i in range(40)]
    vectors = colours.embedder.embed_texts(texts)
    assert [hit[0].item.name for hit in colours.search(text=texts)] == [f"{text}.png" for text in texts]
    assert np.array_equal(vectors[:6], vectors[6:12])


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_a_network_may_take_either_kind_of_whole_number_and_any_names(folder: Path, kind: int) -> None:
    """Networks of open_clip take one input, ``text``, of 32 bits."""
    model = onnx.load(folder / "text.onnx")
    for given in model.graph.input:
        given.type.tensor_type.elem_type = kind
    onnx.save(model, folder / "text.onnx")
    with_names(folder, ids="text", mask="mask", output="vector")
    assert np.allclose(Encoder.open(folder).embed_texts(["red"]).reshape(3, -1)[1:], 0.01 / 1.01 / 4, atol=1e-3)


def test_a_network_may_take_one_text_at_a_time(folder: Path) -> None:
    expected = Encoder.open(folder).embed_texts(["red", "blue green", "white"])
    model = onnx.load(folder / "text.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "text.onnx")
    assert np.array_equal(Encoder.open(folder).embed_texts(["red", "blue green", "white"]), expected)


def with_names(folder: Path, ids: str, mask: str, output: str) -> None:
    """Rename inputs and output of a network, and give it another output."""
    model = onnx.load(folder / "text.onnx")
    names = {"input_ids": ids, "attention_mask": mask, "embeddings": output}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 8, 48]))
    onnx.save(model, folder / "text.onnx")
    write_card(folder, ids=ids, mask=mask, output=output)


def write_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    card["text"] |= changes
    (folder / "encoder.json").write_text(json.dumps(card), encoding="utf-8")


def test_an_encoder_without_a_text_branch_says_so(pocket: Path) -> None:
    with pytest.raises(UsageError, match=r"no text branch.*clip-vit-b32"):
        Encoder.open(pocket).embed_texts(["red"])


def test_the_text_branch_takes_no_images(reader: Path) -> None:
    with pytest.raises(UsageError, match="embeds texts, not images"):
        Encoder.open(reader).embed(np.zeros((1, 32, 32, 3), np.uint8), "text")


def test_without_the_tokenizers_the_error_names_the_extra(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"lookalike\[text\]"):
        Encoder.open(reader).embed_texts(["red"])


# ---- the artefact


def test_the_fingerprint_covers_text_network_tokenizer_and_card(folder: Path) -> None:
    def change_card() -> None:
        write_card(folder, padding=1)

    def change_tokenizer() -> None:
        (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b"\n")

    def change_network() -> None:
        shutil.copyfile(folder / "photo.onnx", folder / "text.onnx")

    fingerprints = [Encoder.open(folder).fingerprint]
    for change in (change_card, change_tokenizer, change_network):
        change()
        fingerprints.append(Encoder.open(folder).fingerprint)
    assert len(set(fingerprints)) == 4


def test_the_fingerprints_of_encoders_without_text_stay() -> None:
    assert la.load_encoder("toyshop").fingerprint == "0d3bba750c3b9fe9799a49c9d7284d73ee326a05d3200830e84d63e6cf2611a9"


def test_a_copy_and_a_collection_have_the_text_branch(colours: Collection, reader: Path, tmp_path: Path) -> None:
    copy = Encoder.open(reader).copy(tmp_path / "copy")
    for place in (copy, colours.path / "encoder"):
        assert {"text.onnx", "tokenizer.json"} <= {path.name for path in place.iterdir()}
    with Collection.open(colours.path) as again:
        assert again.search(text="blue")[0].item.name == "blue.png"


@pytest.mark.parametrize("name", ["text.onnx", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(EncoderError, match=f"{name} is missing"):
        Encoder.open(folder)


@pytest.mark.parametrize(
    "text",
    [
        None,
        {},
        {"tokens": 0},
        {"tokens": 1025},
        {"tokens": 8, "padding": -1},
        {"tokens": 8, "ids": "a\nb"},
        {"tokens": 8, "x": 1},
    ],
)
def test_a_card_with_a_wrong_text_input_is_refused(folder: Path, text: object) -> None:
    card = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    (folder / "encoder.json").write_text(json.dumps(card | {"text": text}), encoding="utf-8")
    with pytest.raises(EncoderError, match="text") as error:
        Encoder.open(folder)
    assert "\n" not in str(error.value)


def test_a_text_input_without_its_branch_is_refused(folder: Path) -> None:
    card = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    (folder / "encoder.json").write_text(json.dumps(card | {"branches": ["photo"]}), encoding="utf-8")
    with pytest.raises(EncoderError, match="branch “text”"):
        Encoder.open(folder)


# ---- strangers


def test_a_tokenizer_that_is_too_large_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_TOKENIZER_BYTES", 100)
    with pytest.raises(EncoderError, match=r"tokenizer.json cannot be used: it has more than 100 bytes"):
        Encoder.open(folder)


def tokenizer_with(folder: Path, **changes: object) -> None:
    tree = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(tree | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"[]", b"{}", b"[" * 10_000, b'{"version": "1.0", "model": {"type": "WordLevel"}}']
)
def test_a_file_that_is_not_a_tokenizer_is_one_line(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(EncoderError, match=r"text.onnx of “pocket” has a tokenizer.json that fails") as error:
        Encoder.open(folder).embed_texts(["red"])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_tokenizer_with_tokens_that_the_network_does_not_know_is_one_line(folder: Path) -> None:
    tokenizer_with(folder, model={"type": "WordLevel", "vocab": {"red": 999, "[UNK]": 1}, "unk_token": "[UNK]"})
    with pytest.raises(EncoderError, match=r"text.onnx of “pocket” fails") as error:
        Encoder.open(folder).embed_texts(["red"])
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_endless_work_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A regular expression that tries every way to divide a word; Rust's code panics when it has tried too often."""
    monkeypatch.setattr(process, "FIRST_SECONDS", 3.0)
    split = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
    tokenizer_with(folder, pre_tokenizer=split)
    start = time.monotonic()
    with pytest.raises(EncoderError, match=r"fails|takes longer") as error:
        Encoder.open(folder).embed_texts(["x" * MAX_TEXT])
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < 20


def test_a_tokenizer_that_takes_too_much_memory_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "memory_limit", lambda _: 1 << 30)
    tokenizer_with(folder, normalizer={"type": "Replace", "pattern": {"String": "x"}, "content": "y" * 10**7})
    with pytest.raises(EncoderError, match="memory") as error:
        Encoder.open(folder).embed_texts(["x" * MAX_TEXT])
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_changes_on_disk_is_not_used(folder: Path) -> None:
    encoder = Encoder.open(folder)
    tokenizer_with(folder, truncation=None, padding=None, version="1.0", decoder=None)
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b" ")
    with pytest.raises(EncoderError, match="changed after it was opened"):
        encoder.embed_texts(["red"])


def test_the_paddings_of_a_tokenizer_do_not_count(folder: Path) -> None:
    """The card says how texts are padded and cut; a tokenizer could pad to a billion tokens."""
    encoder = Encoder.open(folder)
    expected = encoder.embed_texts(["red"])
    padding = {
        "strategy": {"Fixed": 10**9},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 3,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    tokenizer_with(folder, padding=padding, truncation=None)
    assert np.array_equal(Encoder.open(folder).embed_texts(["red"]), expected)


# ---- queries


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("x" * (MAX_TEXT + 1), "1,001 characters. Give at most 1,000"),
        ("red \ud800", "surrogate"),
        (7, "str, not int"),
        (b"red", "str, not bytes"),
        (["red", None], "str, not NoneType"),
    ],
)
def test_a_wrong_text_is_one_line(colours: Collection, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        colours.search(text=text)
    assert "\n" not in str(error.value)


def test_any_unicode_text_can_be_searched_for(colours: Collection) -> None:
    for text in ("red\n", "červený", "赤", "👩‍🎨 red", "\0", "a" * MAX_TEXT, "--text", "\u202e"):
        assert len(colours.search(text=text)) == 6


def test_a_search_by_text_finds_images(colours: Collection) -> None:
    answer = colours.search(text="red", k=3)
    assert answer[0].item.name == "red.png"
    assert len(answer) == 3
    assert answer[0].distance < 0.1
    within = colours.search(text="red", within=0.1)
    assert [hit.item.name for hit in within] == ["red.png"]
    both = colours.search(text=["green", "blue"])
    assert [hits[0].item.name for hits in both] == ["green.png", "blue.png"]
    assert colours.search(text=[]) == []


def test_answers_to_texts_have_no_probability(own: Path) -> None:
    """A calibration and the distances of chance are of photos; a text lies farther from all of them."""
    pocket_encoder.calibrated(own / "encoder")
    with Collection.open(own) as shop:
        answer = shop.search(text="red")
        assert answer.no_match is None
        assert (answer[0].probability, answer[0].closeness, answer.calibrated_on) == (None, None, None)
        with pytest.raises(UsageError, match="a text lies farther from photos"):
            shop.search(text="red", far=0.1)


def test_contradictory_options_are_refused(colours: Collection) -> None:
    with pytest.raises(UsageError, match="not a sketch"):
        colours.search(text="red", sketch=True)
    with pytest.raises(UsageError, match="Give exactly one"):
        colours.search("mug.jpg", text="red")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="not a sketch"):
        Query(texts=["red"], branch="sketch")
    with pytest.raises(UsageError, match="give one of them"):
        Query(texts=["red"], items=["a"])
    with pytest.raises(UsageError, match="texts, not images"):
        Query(images=["mug.jpg"], branch="text")
    assert Query(texts=["red"]).branch == "text"
    assert len(Query(texts=["red", "blue"])) == 2


def test_labels_can_be_ranked_by_a_text(own: Path) -> None:
    with Collection.open(own) as shop:
        for item in list(shop):
            shop.add([item.uri], labels=[item.name.removesuffix(".png")])
        (ranking,) = shop.rank_labels(Query(texts=["blue"], k=2))
    assert ranking.label == "blue"


# ---- the command line


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["lookalike", "search", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_command_line_searches_by_a_text(
    colours: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(colours.path)
    assert "red.png" in command(capsys, name, "--text", "Red", "-k", "1")[1]
    for options in (["-k", "2"], ["--within", "0.1"]):
        answer = json.loads(command(capsys, name, "--text", "red", *options, "--json")[1])
        assert answer["query"] == "red"
        assert answer["hits"][0]["name"] == "red.png"
        assert answer["hits"][0]["probability"] is None
    out = tmp_path / "hits.csv"
    assert "6 hits of 1 text" in command(capsys, name, "--text", "=red", "--out", str(out))[1]
    assert out.read_text(encoding="utf-8").count("red") > 6


def test_a_page_of_results_shows_the_text_and_not_an_image_of_it(
    colours: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hits.html"
    command(capsys, str(colours.path), "--text", "<b>red</b>", "--out", str(out))
    page = out.read_text(encoding="utf-8")
    assert "<h2>&lt;b&gt;red&lt;/b&gt;</h2>" in page
    assert page.count("<figure") == 6
    assert "1 text." in page


def test_wrong_texts_are_usage_errors_on_the_command_line(
    colours: Collection, pocket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(colours.path)
    for arguments, reason in (
        ([name], "IMAGE… is missing"),
        ([name, "mug.jpg", "--text", "red"], "not both"),
        ([name, "--text", " "], "empty"),
        ([name, "--text", "red", "--sketch"], "not a sketch"),
        ([name, "--text", "red", "--far", "0.1"], "a text lies farther from photos"),
    ):
        code, _, error = command(capsys, *arguments)
        assert (code, error.count("\n")) == (2, 1)
        assert reason in error
    with Collection.create(tmp_path / "images", encoder=pocket):
        code, _, error = command(capsys, str(tmp_path / "images"), "--text", "red")
    assert (code, error.count("\n")) == (2, 1)
    assert "no text branch" in error


# ---- the server


@pytest.fixture
def client(colours: Collection) -> Iterator[httpx.Client]:
    with serving(create_app([colours])) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


SEARCH = "/api/collections/colours/search"


def test_the_server_searches_by_a_text(client: httpx.Client) -> None:
    branches = client.get("/api/collections").json()["collections"][0]["encoder"]["branches"]
    assert branches == ["photo", "sketch", "text"]
    answer = client.post(SEARCH, json={"text": "green", "k": 2}).json()
    assert answer["hits"][0]["name"] == "green.png"
    assert (answer["no_match"], answer["hits"][0]["closeness"]) == (None, None)


def test_the_server_continues_a_range_search_by_a_text(client: httpx.Client) -> None:
    whole = client.post(SEARCH, json={"text": "green", "within": 2}).json()["hits"]
    cursor = f"{whole[1]['distance']!r} {whole[1]['id']}"
    rest = client.post(SEARCH, json={"text": "green", "within": 2, "cursor": cursor}).json()
    assert rest["hits"] == whole[2:]
    assert rest["complete"]


@pytest.mark.parametrize("body", [{"text": ""}, {"text": "x" * 1001}, {"text": 7}, {"text": "red", "item": "a"}])
def test_the_server_refuses_wrong_texts(client: httpx.Client, body: dict[str, object]) -> None:
    answer = client.post(SEARCH, json=body)
    assert answer.status_code == 422
    assert "text" in answer.text
