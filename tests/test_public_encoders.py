"""Public encoders: layouts of other tools, downloads, licences, and what is refused."""

import io
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
from PIL import Image

import lookalike as la
from lookalike import encoders
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder, graph, layouts, licences, preprocessing, public
from lookalike.encoders import hub as fetching
from lookalike.encoders.preprocessing import ConfigurationError
from lookalike.errors import EncoderError, NotFoundError, UsageError
from pocket_hub import COMMIT, TOKEN, hub_of
from pocket_server import serving
from public_encoders import CONVNEXT, HALF, SIGLIP, SIZE, WIDTH, Weights, dinov2, examples

WEIGHTS = Weights()
EXAMPLES = examples(WEIGHTS)


def photos() -> list[Image.Image]:
    """Smooth images of several shapes."""
    rng = np.random.default_rng(0)
    sizes = [(97, 61), (60, 91), (64, 64), (37, 37), (400, 300)]
    return [
        Image.fromarray(rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8)).resize((width, height))
        for width, height in sizes
    ]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / lengths)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return EXAMPLES["transformers.js"].write(tmp_path / "dino")


# ---- layouts


@pytest.mark.parametrize("name", EXAMPLES)
def test_embeddings_agree_with_a_plain_implementation(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    encoder = encoders.load(example.write(tmp_path / "encoder"))
    assert encoder.card.dimension == example.dimension
    embeddings = Embedder.of(encoder).embed(photos())
    expected = example.expect(photos(), WEIGHTS)
    assert cosines(embeddings, expected).min() > 0.9999
    assert np.allclose(embeddings, expected, atol=0.02)


def test_a_jpeg_is_embedded_as_its_pixels(folder: Path) -> None:
    file = io.BytesIO()
    photos()[4].resize((1600, 1200)).save(file, "JPEG", quality=95)
    encoder = encoders.load(folder)
    embeddings = Embedder.of(encoder).embed([file.getvalue()])
    expected = EXAMPLES["transformers.js"].expect([Image.open(file)], WEIGHTS)
    assert cosines(embeddings, expected).min() > 0.9999


def test_an_artefact_is_made_once_and_records_what_it_was_made_of(folder: Path) -> None:
    first = encoders.load(folder)
    written = (first.folder / "photo.onnx").stat()
    assert encoders.load(folder).folder == first.folder
    assert (first.folder / "photo.onnx").stat() == written
    assert encoders.is_shared(first)
    origin = first.card.origin
    assert origin is not None
    assert (origin.source, origin.commit, origin.layout) == ("dino", None, "transformers.js")
    assert set(origin.files) == {"preprocessor_config.json", "config.json", "onnx/model.onnx"}
    assert first.card.licence == "mit"
    (folder / "preprocessor_config.json").write_text(json.dumps(dinov2(size={"shortest_edge": 40})), encoding="utf-8")
    assert encoders.load(folder).fingerprint != first.fingerprint


def test_an_artefact_whose_network_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = encoders.load(folder).copy(tmp_path / "copy")
    assert Encoder.open(copy).card.name == "dino"
    (copy / "photo.onnx").write_bytes((copy / "photo.onnx").read_bytes() + b"\x32\0")
    with pytest.raises(EncoderError, match=r"photo\.onnx is not the file that was fetched"):
        Encoder.open(copy)


def test_an_artefact_needs_no_other_file(tmp_path: Path) -> None:
    example = EXAMPLES["transformers.js, weights beside"]
    written = example.write(tmp_path / "encoder")
    assert (written / "onnx/vision_model.onnx_data").is_file()
    artefact = encoders.load(written).folder
    assert {path.name for path in artefact.iterdir()} == {"encoder.json", "photo.onnx", "README.md"}
    assert graph.external_files((artefact / "photo.onnx").read_bytes()) == frozenset()


# ---- what is refused


def remove_weights(folder: Path) -> None:
    (folder / "onnx/vision_model.onnx_data").unlink()


def shorten_weights(folder: Path) -> None:
    path = folder / "onnx/vision_model.onnx_data"
    path.write_bytes(path.read_bytes()[:100])


def link_weights(folder: Path) -> None:
    path = folder / "onnx/vision_model.onnx_data"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


def place(location: str, **entries: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "onnx/vision_model.onnx"
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.external_data:
                kept = {entry.key: entry.value for entry in tensor.external_data} | {"location": location} | entries
                del tensor.external_data[:]
                for key, value in kept.items():
                    tensor.external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_weights, "is missing"),
        (shorten_weights, "shorter than it states"),
        (link_weights, "a link to a file outside"),
        (place("../vision_model.onnx_data"), "not a file beside it"),
        (place("/etc/passwd"), "not a file beside it"),
        (place("..\\a"), "not a file beside it"),
        (place(".."), "not a file beside it"),
        (place(""), "not a file beside it"),
        (place("vision_model.onnx_data", offset="-1"), "other than numbers"),
        (place("vision_model.onnx_data", length="9" * 18), "shorter than it states"),
    ],
)
def test_weights_outside_of_the_folder_are_refused(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    written = EXAMPLES["transformers.js, weights beside"].write(tmp_path / "in" / "encoder")
    damage(written)
    with pytest.raises(EncoderError, match=message) as e:
        encoders.load(written)
    assert "\n" not in str(e.value)


def only(*outputs: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        onnx.save(WEIGHTS.network(outputs), folder / "onnx/model.onnx")

    return change


def text_too(folder: Path) -> None:
    model = onnx.load(folder / "onnx/model.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["n", 77]))
    onnx.save(model, folder / "onnx/model.onnx")


def configure(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "preprocessor_config.json").write_text(json.dumps(dinov2(**changes)), encoding="utf-8")

    return change


def write(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content, encoding="utf-8")

    return change


def link_network(folder: Path) -> None:
    (folder / "onnx/model.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "onnx/model.onnx").symlink_to(folder.parent / "elsewhere.onnx")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (only("logits"), UsageError, "scores of a classifier"),
        (only("maps", "logits"), UsageError, "None of the network's outputs is known"),
        (text_too, EncoderError, r"2 inputs.*input_ids"),
        (configure(do_pad=True), EncoderError, "do_pad"),
        (configure(do_resize=False), EncoderError, "does not resize"),
        (configure(do_center_crop=False), EncoderError, "does not crop"),
        (configure(size={"height": 32, "width": 48}), EncoderError, "48 × 32"),
        (configure(size="large"), EncoderError, "size large"),
        (configure(resample=9), EncoderError, "interpolation 9"),
        (configure(image_std=[0, 1, 1]), EncoderError, "std"),
        (configure(image_mean=[0.5, 0.5]), EncoderError, "image_mean"),
        (configure(crop_size=50), EncoderError, "resize"),
        (configure(rescale_factor=0), EncoderError, "rescale_factor"),
        (write("preprocessor_config.json", "[]"), EncoderError, "not a JSON object"),
        (write("preprocessor_config.json", "{"), EncoderError, r"preprocessor_config\.json"),
        (write("onnx/model.onnx", "text"), EncoderError, r"model\.onnx"),
        (write("lookalike.json", "{}"), EncoderError, "network: missing"),
        (write("lookalike.json", '{"network": "a.onnx", "colour": 1}'), EncoderError, r"lookalike\.json"),
        (
            write("lookalike.json", json.dumps({"network": "../a.onnx", "size": 32} | HALF)),
            EncoderError,
            "not in its folder",
        ),
        (
            write("lookalike.json", json.dumps({"network": "onnx/model.onnx", "size": 32, "output": "x"} | HALF)),
            UsageError,
            "no output “x”",
        ),
        (
            write("lookalike.json", json.dumps({"network": "onnx/model.onnx", "size": 32, "dimension": 5} | HALF)),
            EncoderError,
            "contradicts its card",
        ),
        (link_network, EncoderError, "a link to a file outside"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused(
    folder: Path, damage: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    damage(folder)
    with pytest.raises(error, match=message) as e:
        encoders.load(folder)
    assert "\n" not in str(e.value)


# ---- configurations


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (dinov2(), ("crop", 37, SIZE, "bicubic")),
        (SIGLIP, ("squash", SIZE, SIZE, "bilinear")),
        (CONVNEXT, ("crop", 36, SIZE, "bicubic")),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, ("squash", 384, 384, "bicubic")),
        # Early CLIP, ViT and DeiT.
        (dinov2(size=224, crop_size=224, feature_extractor_type="CLIPFeatureExtractor"), ("crop", 224, 224, "bicubic")),
        (
            dinov2(size=224, do_center_crop=False, image_processor_type="ViTFeatureExtractor"),
            ("squash", 224, 224, "bicubic"),
        ),
        (
            dinov2(size={"height": 256, "width": 256}, crop_size=224, image_processor_type="DeiTImageProcessor"),
            ("squash", 256, 224, "bicubic"),
        ),
        (
            {
                "image_processor_type": "JinaCLIPImageProcessor",
                "interpolation": "bicubic",
                "resize_mode": "shortest",
                "size": 224,
            }
            | HALF,
            ("crop", 224, 224, "bicubic"),
        ),
    ],
)
def test_preprocessing_of_transformers(config: dict[str, Any], expected: tuple[object, ...]) -> None:
    spec = preprocessing.of_transformers(config)
    assert (spec.fit, spec.resize, spec.size, spec.interpolation) == expected


def test_preprocessing_of_timm() -> None:
    config = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"} | HALF
    spec = preprocessing.of_timm(config)
    assert (spec.fit, spec.resize, spec.size, spec.interpolation) == ("crop", 235, 224, "bicubic")
    squash = preprocessing.of_timm(config | {"crop_mode": "squash", "crop_pct": 1.0})
    assert (squash.fit, squash.resize) == ("squash", 224)
    with pytest.raises(ConfigurationError, match="border"):
        preprocessing.of_timm(config | {"crop_mode": "border"})
    with pytest.raises(ConfigurationError, match="crop_pct"):
        preprocessing.of_timm(config | {"crop_pct": 0.01})


def test_preprocessing_of_open_clip() -> None:
    spec = preprocessing.of_open_clip({}, 224)
    assert (spec.fit, spec.resize, spec.size, spec.interpolation) == ("crop", 224, 224, "bicubic")
    assert spec.mean == (0.48145466, 0.4578275, 0.40821073)
    assert preprocessing.of_open_clip({"resize_mode": "squash", "size": [64, 64]}).fit == "squash"
    with pytest.raises(ConfigurationError, match="longest"):
        preprocessing.of_open_clip({"resize_mode": "longest", "size": 64})


@pytest.mark.parametrize(
    ("names", "network", "kind"),
    [
        (["visual/model.onnx", "visual/preprocess_cfg.json"], None, "Immich"),
        (["onnx/model.onnx", "preprocessor_config.json", "model.safetensors", "config.json"], None, "transformers.js"),
        (
            ["onnx/s0/vision_model.onnx", "onnx/s0/preprocessor_config.json"],
            "onnx/s0/vision_model.onnx",
            "transformers.js",
        ),
        (["onnx/model_int8.onnx", "preprocessor_config.json"], "onnx/model_int8.onnx", "transformers.js"),
        (["model.onnx", "preprocessor_config.json"], None, "fastembed"),
        (["open_clip_model.safetensors", "open_clip_config.json"], None, "OpenCLIP"),
        (["model.safetensors", "config.json"], None, "timm"),
        (["lookalike.json", "model.onnx", "preprocessor_config.json"], None, "lookalike.json"),
        (["model.onnx"], None, None),
        (["a.onnx"], "b.onnx", None),
        ([], None, None),
    ],
)
def test_layouts_are_found_by_the_names_of_files(names: list[str], network: str | None, kind: str | None) -> None:
    found = layouts.find(names, network)
    assert (found and found.kind) == kind


# ---- licences


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\r\nlicense: other\r\nlicense_name: apple-amlr\r\n---\r\n", "apple-amlr"),
        ("# no front matter\n---\nlicense: mit\n---\n", "not stated"),
        ("---\nlicense: [\n---\n", "not stated"),
        ("---\n- a\n---\n", "not stated"),
        ("---\nlicense: 'a\\e[2Jb'\n---\n", "a\\e[2Jb"),
        ('---\nlicense: "a\\e[2Jb"\n---\n', "a[2Jb"),
    ],
)
def test_the_licence_of_a_readme(text: str, licence: str) -> None:
    assert licences.of_readme(text) == licence


def test_known_encoders_that_are_not_free_state_their_terms() -> None:
    for known in encoders.KNOWN.values():
        assert licences.is_permissive(known.licence) or known.terms
        assert known.network is None or known.sha256 or not known.revision
        assert known.name not in encoders.bundled()


def test_a_known_encoder_without_a_network_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"sscd.*public-encoders\.md"):
        encoders.load("sscd")


def test_a_folder_has_precedence_over_a_known_encoder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder.rename("resnet50")
    assert encoders.load("resnet50").card.dimension == WIDTH


# ---- the hub


LOAD = """
import json, sys
from dataclasses import replace
import numpy as np
from lookalike import encoders
from lookalike.embedding import Embedder
from lookalike.encoders.known import KNOWN
from lookalike.errors import LookalikeError
import huggingface_hub.constants

huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1024  # the client keeps whole chunks of an interrupted download
commit, sha256 = sys.argv[1:3]
mini = replace(KNOWN["dinov2-small"], name="mini", repository="org/dino", revision=commit, sha256=sha256)
KNOWN["mini"] = mini
KNOWN["moved"] = replace(mini, name="moved", sha256="0" * 64)
KNOWN["latest"] = replace(mini, name="latest", revision=None, sha256=None)
for source in sys.argv[3:]:
    try:
        encoder = encoders.load(source)
        image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
        embedding = Embedder.of(encoder).embed([image])[0]
        print(json.dumps({"card": encoder.card.model_dump(mode="json"), "embedding": embedding.tolist()}))
    except LookalikeError as e:
        print(json.dumps({"error": type(e).__name__, "message": str(e)}))
"""


class Client:
    """Loads encoders in a process of its own, since the hub's client reads its settings when it is imported."""

    def __init__(self, home: Path, sha256: str) -> None:
        self._env = os.environ | {"HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache")}
        self._env.pop("HF_TOKEN", None)
        self._sha256 = sha256

    def run(self, endpoint: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line."""
        return subprocess.run(
            [sys.executable, "-m", "lookalike", *arguments],
            env=self._env | {"HF_ENDPOINT": endpoint},
            capture_output=True,
            text=True,
            check=False,
        )

    def load(self, endpoint: str, *sources: str, **env: str) -> list[dict[str, Any]]:
        run = subprocess.run(
            [sys.executable, "-c", LOAD, COMMIT, self._sha256, *sources],
            env=self._env | {"HF_ENDPOINT": endpoint} | env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture
def hub(tmp_path: Path, pocket: Path) -> Path:
    pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    home = tmp_path / "hub"
    names = {
        "dino": "transformers.js",
        "siglip": "transformers.js, weights beside",
        "immich": "Immich",
        "fast": "fastembed",
    }
    for repository, name in names.items():
        EXAMPLES[name].write(home / "org" / repository)
    EXAMPLES["lookalike.json"].write(home / "org" / "mine")
    EXAMPLES["fastembed"].write(home / "gated" / "model")
    own = EXAMPLES["fastembed"].write(home / "org" / "research")
    (own / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n", encoding="utf-8")
    shutil.copytree(pocket, home / "org" / "own")
    (home / "org" / "other").mkdir()
    (home / "org" / "other" / "model.bin").write_bytes(b"weights")
    return home


def digest(path: Path) -> str:
    return fetching.digest(path)


def test_public_encoders_are_fetched_once_and_then_opened_offline(hub: Path, tmp_path: Path) -> None:
    client = Client(tmp_path, digest(hub / "org/dino/onnx/model.onnx"))
    sources = ["mini", "latest", "hf://org/siglip", "hf://org/immich@v1", "hf://org/fast", "hf://org/mine"]
    sent: list[str] = []
    with serving(hub_of(hub, sent)) as server:
        first = client.load(server, *sources)
    assert [each.get("message") for each in first] == [None] * len(sources)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    examples_of = ["transformers.js"] * 2 + ["transformers.js, weights beside", "Immich", "fastembed", "lookalike.json"]
    for each, name in zip(first, examples_of, strict=True):
        expected = EXAMPLES[name].expect([image], WEIGHTS)
        assert cosines(np.array([each["embedding"]]), expected).min() > 0.9999
        assert each["card"]["origin"]["commit"] == COMMIT
        assert each["card"]["origin"]["files"]
    # Only what is needed, no other precision.
    assert "onnx/model_int8.onnx" not in sent
    own = client.load("http://127.0.0.1:9", "hf://org/own", "hf://org/own@v1", HF_HUB_OFFLINE="1")
    assert ["cannot be reached" in each["message"] for each in own] == [True, True]
    with serving(hub_of(hub)) as server:
        own = client.load(server, "hf://org/own", "hf://org/own@v1")
    assert [each["card"]["name"] for each in own] == ["pocket", "pocket"]
    assert client.load(server, "hf://org/own", "hf://org/own@v1", HF_HUB_OFFLINE="1") == own
    # The server is gone.
    assert client.load("http://127.0.0.1:9", *sources, HF_HUB_OFFLINE="1") == first


def test_errors_of_the_hub_are_one_line(hub: Path, tmp_path: Path) -> None:
    client = Client(tmp_path, digest(hub / "org/dino/onnx/model.onnx"))
    sources = {
        "hf://gated/model": "gated",
        "hf://org/missing": "does not exist, or is private",
        "hf://org/dino@v7": "no such revision",
        "hf://org/dino/onnx/model_fp16.onnx": "no file onnx/model_fp16.onnx",
        "hf://org/other": "is not an encoder",
        "hf://org/research": "cc-by-nc-4.0",
        "moved": "is not the file that this lookalike knows",
        "resnet50": "does not exist, or is private",
    }
    with serving(hub_of(hub)) as server:
        results = client.load(server, *sources)
        (opened,) = client.load(server, "hf://gated/model", HF_TOKEN=TOKEN)
    for result, message in zip(results, sources.values(), strict=True):
        assert message in result["message"]
        assert "\n" not in result["message"]
    assert opened["card"]["name"] == "gated/model"
    offline = client.load(server, "hf://org/immich", HF_HUB_OFFLINE="1")
    assert "cannot be reached" in offline[0]["message"]


@pytest.mark.slow
def test_a_licence_is_accepted_once(hub: Path, tmp_path: Path) -> None:
    client = Client(tmp_path, digest(hub / "org/dino/onnx/model.onnx"))
    with serving(hub_of(hub)) as server:
        refused = client.run(server, "encoders", "--fetch", "hf://org/research")
        assert refused.returncode == 2
        assert "cc-by-nc-4.0" in refused.stderr
        assert "--accept-licence" in refused.stderr
        fetched = client.run(server, "encoders", "--fetch", "hf://org/research", "--accept-licence", "--json")
    assert json.loads(fetched.stdout)["licence"] == "cc-by-nc-4.0"
    assert fetched.stderr == ""
    (opened,) = client.load(server, "hf://org/research", HF_HUB_OFFLINE="1")
    assert opened["card"]["origin"]["commit"] == COMMIT


def test_a_licence_can_be_asked_for(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = public.find_in_folder(hub / "org" / "research")
    assert found is not None
    monkeypatch.setattr(encoders, "find", lambda _: replace(found, commit=COMMIT))
    monkeypatch.setattr(public, "make", lambda _: EXAMPLES["fastembed"].write(tmp_path / "none"))
    asked: list[str] = []

    def refuse(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(UsageError, match="cc-by-nc"):
        la.fetch_encoder("hf://org/research", accept_licence=refuse)
    assert "cc-by-nc-4.0" in asked[0]
    with pytest.raises(NotFoundError):  # what the fake makes is not an artefact
        la.fetch_encoder("hf://org/research", accept_licence=lambda _: True)


@pytest.mark.slow
def test_an_interrupted_download_is_resumed(hub: Path, tmp_path: Path) -> None:
    client = Client(tmp_path, digest(hub / "org/dino/onnx/model.onnx"))
    sent: list[str] = []
    size = (hub / "org/dino/onnx/model.onnx").stat().st_size
    with serving(hub_of(hub, sent, break_at=size // 2)) as server:
        for _ in range(3):
            (result,) = client.load(server, "mini")
            if "card" in result:
                break
    assert result["card"]["name"] == "mini"
    assert [each for each in sent if each.startswith("onnx/model.onnx bytes=")]
