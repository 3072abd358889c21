"""Text branches of public encoders: the layouts of other tools, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lookalike import encoders
from lookalike.encoders import public, texts
from lookalike.errors import EncoderError
from pocket_hub import COMMIT, hub_of
from pocket_server import serving
from public_encoders import DIMENSION, WIDTH, Weights, examples

EXAMPLES = examples(Weights())
WORDS = ["<pad>", "<unk>", "<end>", "a", "red", "blue", "mug", "Red", ","]
TABLE = np.random.default_rng(1).normal(size=(len(WORDS), 32)).astype(np.float32)


def network(ids: str, output: str, dimension: int, shape: list[Any], *, mask: bool = False) -> onnx.ModelProto:
    """Make a network of texts: the sum of the vectors of all tokens, also of those that pad; a mask leaves them out."""
    nodes = [
        helper.make_node("Gather", ["table", ids], ["rows"]),
        helper.make_node("ReduceSum", ["rows" if not mask else "known", "tokens"], [output], keepdims=0),
    ]
    if mask:
        nodes[1:1] = [
            helper.make_node("Cast", ["attention_mask"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["float", "last"], ["weights"]),
            helper.make_node("Mul", ["rows", "weights"], ["known"]),
        ]
    kind = TensorProto.INT32 if ids == "text" else TensorProto.INT64
    given = [helper.make_tensor_value_info(name, kind, shape) for name in [ids, *(["attention_mask"] if mask else [])]]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], dimension])]
    constants = {"table": TABLE[:, :dimension], "tokens": np.array([1]), "last": np.array([-1])}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "texts", given, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def expect(words: list[str], dimension: int) -> np.ndarray:
    return np.asarray(sum(TABLE[WORDS.index(word), :dimension] for word in words))


def write_tokenizer(folder: Path, **configuration: object) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 2)])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"pad_token": "<pad>", "eos_token": "<end>", "model_max_length": 10**30} | configuration
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")


def add_model(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(tree | fields), encoding="utf-8")


@pytest.fixture
def immich(tmp_path: Path) -> Path:
    folder = EXAMPLES["Immich"].write(tmp_path / "immich")
    write_tokenizer(folder / "textual")
    onnx.save(network("text", "text_embedding", DIMENSION, [1, 6]), folder / "textual/model.onnx")
    add_model(folder, text_cfg={"context_length": 6})
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A CLIP in the layout of transformers.js, whose end token also pads."""
    folder = EXAMPLES["transformers.js, weights beside"].write(tmp_path / "clip")
    write_tokenizer(folder, pad_token={"content": "<end>"})
    onnx.save(network("input_ids", "text_embeds", WIDTH, ["n", "tokens"], mask=True), folder / "onnx/text_model.onnx")
    add_model(folder, model_type="clip", text_config={"max_position_embeddings": 5})
    return folder


# ---- layouts


def test_immich(immich: Path) -> None:
    encoder = encoders.load(immich)
    assert encoder.card.branches == ("photo", "text")
    about = encoder.card.text
    assert about is not None
    assert (about.tokens, about.padding, about.ids, about.mask) == (6, 0, "text", None)
    found = encoder.embed_texts(["red mug", "Red, mug"])
    pads = ["<pad>"]
    assert np.allclose(found[0], expect(["red", "mug", "<end>", *pads * 3], DIMENSION), atol=1e-5)
    assert np.allclose(found[1], expect(["Red", ",", "mug", "<end>", *pads * 2], DIMENSION), atol=1e-5)
    assert set(encoder.card.origin.files) >= {"textual/model.onnx", "textual/tokenizer.json"}  # type: ignore[union-attr]


def test_immich_with_canonicalised_texts(immich: Path) -> None:
    add_model(immich, text_cfg={"context_length": 6, "tokenizer_kwargs": {"clean": "canonicalize"}})
    plain, loud = encoders.load(immich).embed_texts(["red mug", "RED, (mug)!"])
    assert np.allclose(plain, loud)


def test_a_clip_of_transformers_js(clip: Path) -> None:
    encoder = encoders.load(clip)
    about = encoder.card.text
    assert about is not None
    assert (about.tokens, about.padding, about.ids, about.mask) == (5, 0, "input_ids", "attention_mask")
    found = encoder.embed_texts(["red mug", "a red mug a red mug"])
    assert np.allclose(found[0], expect(["red", "mug", "<end>"], WIDTH), atol=1e-5)
    assert np.allclose(found[1], expect(["a", "red", "mug", "a", "<end>"], WIDTH), atol=1e-5)


def test_a_siglip_of_transformers_js(clip: Path) -> None:
    """SigLIP was trained on texts in lower case, without punctuation, padded by its end token and without a mask."""
    onnx.save(network("input_ids", "pooler_output", WIDTH, ["n", "tokens"]), clip / "onnx/text_model.onnx")
    add_model(clip, model_type="siglip", text_config={})
    encoder = encoders.load(clip)
    assert encoder.card.text is not None
    assert (encoder.card.text.tokens, encoder.card.text.padding) == (64, 2)
    (found,) = encoder.embed_texts(["RED, mug."])
    assert np.allclose(found, expect(["red", "mug", *["<end>"] * 62], WIDTH), atol=1e-4)


def test_lower_case_is_asked_for_by_the_configuration(clip: Path) -> None:
    write_tokenizer(clip, do_lower_case=True)
    lower, upper = encoders.load(clip).embed_texts(["red, mug", "RED, MUG"])
    assert np.allclose(lower, upper)
    assert np.allclose(lower, expect(["red", ",", "mug", "<end>"], WIDTH), atol=1e-5)


LOAD = """
import json, sys
from lookalike import encoders

for source in sys.argv[1:]:
    encoder = encoders.load(source)
    found = encoder.embed_texts(["red mug"]).tolist() if encoder.card.text else None
    print(json.dumps([encoder.card.branches, sorted(encoder.card.origin.networks), found]))
"""


@pytest.mark.slow
def test_an_encoder_on_a_hub_comes_with_its_text_branch(clip: Path, tmp_path: Path) -> None:
    """The hub's client reads its settings when it is imported."""
    shutil.copytree(clip, tmp_path / "hub" / "org" / "clip")
    with serving(hub_of(tmp_path / "hub")) as url:
        run = subprocess.run(
            [sys.executable, "-c", LOAD, "hf://org/clip", "hf://org/clip/onnx/vision_model.onnx"],
            env=os.environ | {"HF_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_ENDPOINT": url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    with_text, alone = map(json.loads, run.stdout.splitlines())
    assert with_text[:2] == [["photo", "text"], ["photo.onnx", "text.onnx", "tokenizer.json"]]
    assert np.allclose(with_text[2], expect(["red", "mug", "<end>"], WIDTH), atol=1e-5)
    assert alone == [["photo"], ["photo.onnx"], None]


@pytest.mark.parametrize(
    ("network", "others", "expected"),
    [
        ("visual/model.onnx", ["textual/model.onnx", "textual/tokenizer.json", "textual/tokenizer_config.json"], "textual"),
        ("onnx/s0/vision_model.onnx", ["onnx/s0/text_model.onnx", "tokenizer.json", "tokenizer_config.json"], "."),
        ("onnx/vision_model_fp16.onnx", ["onnx/text_model.onnx", "tokenizer.json", "tokenizer_config.json"], None),
        ("onnx/vision_model.onnx", ["onnx/text_model.onnx", "tokenizer.json"], None),
        ("onnx/model.onnx", ["onnx/text_model.onnx", "tokenizer.json", "tokenizer_config.json"], None),
    ],
)  # fmt: skip
def test_a_text_branch_is_found_by_its_names(network: str, others: list[str], expected: str | None) -> None:
    found = texts.find([network, *others], network)
    assert (None if found is None else str(Path(found.tokenizer).parent)) == expected


# ---- what is refused


def set_network(**options: Any) -> Callable[[Path], None]:  # noqa: ANN401 -- of a network
    def change(folder: Path) -> None:
        given: dict[str, Any] = {
            "ids": "input_ids",
            "output": "text_embeds",
            "dimension": WIDTH,
            "shape": ["n", "tokens"],
        } | options
        onnx.save(network(**given), folder / "onnx/text_model.onnx")

    return change


def two_outputs(folder: Path) -> None:
    model = network("input_ids", "scores", WIDTH, ["n", "tokens"])
    model.graph.output.append(helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", "tokens", WIDTH]))
    onnx.save(model, folder / "onnx/text_model.onnx")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (set_network(ids="words"), "takes words, not input_ids"),
        (set_network(dimension=WIDTH - 1), "contradicts its card"),
        (two_outputs, "none of whose outputs"),
        (lambda folder: write_tokenizer(folder, pad_token="<none>"), "pads with <none>"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("7"), "not a JSON object"),
        (lambda folder: add_model(folder, model_type="siglip"), "trained without"),
        (lambda folder: (folder / "onnx/text_model.onnx").write_bytes(b"text"), "is not an ONNX network"),
    ],
)
def test_a_text_branch_that_cannot_be_used_is_refused(
    clip: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(clip)
    with pytest.raises(EncoderError, match=reason) as error:
        encoders.load(clip)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [set_network(ids="words"), set_network(dimension=WIDTH - 1)])
def test_an_error_says_how_to_use_the_images_alone(
    clip: Path, damage: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(clip)
    in_folder = public.find_in_folder(clip)
    assert in_folder is not None
    monkeypatch.setattr(public, "_fetch", lambda *_: clip)
    with pytest.raises(EncoderError, match=r"hf://org/clip@v1/onnx/vision_model\.onnx$"):
        public.make(replace(in_folder, commit=COMMIT, source="hf://org/clip@v1"))


def test_a_tokenizer_elsewhere_is_not_read(clip: Path, tmp_path: Path) -> None:
    (clip / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (clip / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(EncoderError, match="link to a file outside"):
        encoders.load(clip)


def test_a_tokenizer_that_was_changed_after_it_was_fetched_is_refused(clip: Path, tmp_path: Path) -> None:
    copy = encoders.load(clip).copy(tmp_path / "copy")
    path = copy / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(EncoderError, match=r"tokenizer\.json is not the file that was fetched"):
        encoders.load(copy)
