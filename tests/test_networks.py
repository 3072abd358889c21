"""Networks against their papers' layers and others' parameter names; branches and heads; public weights; export."""

import math
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn

from lookalike.encoders import graph
from lookalike.errors import MismatchError, MissingExtraError, NotFoundError, RecipeError, UsageError
from lookalike.learn import export, networks, recipe
from lookalike.learn.networks.convnext import ConvNeXtBlock
from lookalike.learn.networks.plain import KochNet, SmallCNN
from lookalike.learn.networks.resnet import SqueezeExcite
from lookalike.learn.onnx_export import to_onnx
from pocket_hub import hub_of
from pocket_server import serving

RECIPES = Path(__file__).parent.parent / "recipes"

# torch and its exporter warn about their own internals, which lookalike cannot change.
pytestmark = [pytest.mark.filterwarnings("default")]

# One of each architecture, and a fast image size for it.
EACH: list[tuple[dict[str, Any], int]] = [
    ({"backbone": "fast", "widths": [8, 8, 8]}, 16),
    ({"backbone": "cnn"}, 8),
    ({"backbone": "koch", "dimension": 16}, 105),
    ({"backbone": "resnet18", "stem": "small", "mirror": True}, 16),
    ({"backbone": "resnet50"}, 32),
    ({"backbone": "seresnet50"}, 32),
    ({"backbone": "vgg16"}, 32),
    ({"backbone": "convnext_tiny"}, 32),
    ({"backbone": "efficientnet_lite0"}, 32),
    ({"backbone": "efficientnet_lite1", "blocks": 2, "grid": 3}, 16),
]
each = pytest.mark.parametrize(("network", "size"), EACH, ids=[str(n["backbone"]) for n, _ in EACH])


def config(**network: object) -> recipe.Network:
    adapter: TypeAdapter[recipe.Network] = TypeAdapter(recipe.Network)
    return adapter.validate_python(network)


def count_weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- sizes and names


@pytest.mark.parametrize(
    ("name", "tensors", "weights"),
    [
        ("resnet18", 120, 11_176_512),
        ("resnet34", 216, 21_284_672),
        ("resnet50", 318, 23_508_032),
        # timm's 28,088,024 without its classifier; 16 blocks with four more tensors.
        ("seresnet50", 318 + 16 * 4, 28_088_024 - 2_049_000),
    ],
)
def test_a_resnet_has_the_parameters_of_torchvisions_and_timms(name: str, tensors: int, weights: int) -> None:
    net = networks.backbone(config(backbone=name))
    state = net.state_dict()
    assert len(state) == tensors
    assert count_weights(net) == weights
    expected = {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight"}
    assert expected | {"layer4.1.bn2.num_batches_tracked", "layer2.0.downsample.1.bias"} <= set(state)
    assert tuple(state["conv1.weight"].shape) == (64, 3, 7, 7)


def test_squeeze_and_excitation_have_timms_names_and_shapes() -> None:
    state = networks.backbone(config(backbone="seresnet50")).state_dict()
    shapes = {name: tuple(state[f"layer1.0.se.{name}"].shape) for name in ("fc1.weight", "fc1.bias", "fc2.weight")}
    assert shapes == {"fc1.weight": (16, 256, 1, 1), "fc1.bias": (16,), "fc2.weight": (256, 16, 1, 1)}
    assert tuple(state["layer4.2.se.fc2.weight"].shape) == (2048, 128, 1, 1)


def test_vgg16_has_the_parameters_of_torchvisions() -> None:
    net = networks.backbone(config(backbone="vgg16"))
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert list(net.state_dict()) == [f"features.{i}.{name}" for i in convolutions for name in ("weight", "bias")]
    assert count_weights(net) == 14_714_688
    pools = [i for i, m in enumerate(net.get_submodule("features").children()) if isinstance(m, nn.MaxPool2d)]
    assert pools == [4, 9, 16, 23, 30]


@pytest.mark.parametrize(
    ("name", "weights"),
    # torchvision's numbers without the classifier's last layer.
    [("convnext_tiny", 28_589_128 - 769_000), ("convnext_base", 88_591_464 - 1_025_000)],
)
def test_a_convnext_has_the_parameters_of_torchvisions(name: str, weights: int) -> None:
    with torch.device("meta"):
        net = networks.backbone(config(backbone=name))
    assert count_weights(net) == weights
    shapes = {n: tuple(v.shape) for n, v in net.state_dict().items() if n.startswith(("features.6.", "features.7.2."))}
    width = net.outputs
    assert shapes == {
        "features.6.0.weight": (width // 2,),
        "features.6.0.bias": (width // 2,),
        "features.6.1.weight": (width, width // 2, 2, 2),
        "features.6.1.bias": (width,),
        "features.7.2.layer_scale": (width, 1, 1),
        "features.7.2.block.0.weight": (width, 1, 7, 7),
        "features.7.2.block.0.bias": (width,),
        "features.7.2.block.2.weight": (width,),
        "features.7.2.block.2.bias": (width,),
        "features.7.2.block.3.weight": (4 * width, width),
        "features.7.2.block.3.bias": (4 * width,),
        "features.7.2.block.5.weight": (width, 4 * width),
        "features.7.2.block.5.bias": (width,),
    }


def test_kochs_network_has_the_papers_number_of_weights() -> None:
    net = networks.Siamese(config(backbone="koch"), ("photo",))
    # The paper's last unit has 4096 weights and a bias; here it belongs to the loss.
    assert count_weights(net) + 4096 + 1 == 38_951_745


def test_the_cnn_of_r2_has_its_number_of_weights() -> None:
    net = networks.Siamese(config(backbone="cnn"), ("photo",))
    parts = [32 * 9 + 32, 64 * 32 * 9 + 64, 128 * 64 * 9 + 128, 64 * 128 + 64]
    assert count_weights(net) == sum(parts)


# ---- formulas


def test_the_small_stem_keeps_the_size_of_the_map() -> None:
    net = networks.backbone(config(backbone="resnet18", stem="small"))
    seen: list[torch.Size] = []
    net.get_submodule("layer1").register_forward_hook(lambda _m, _i, out: seen.append(out.shape))
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 512)
    assert seen == [torch.Size((2, 64, 32, 32))]


def test_squeeze_and_excitation_is_the_formula() -> None:
    torch.manual_seed(0)
    layer, x = SqueezeExcite(32), noise(2, 32, 3, 5)
    out = layer(x)
    first, second = layer.fc1, layer.fc2
    assert first.bias is not None
    assert second.bias is not None
    for n in range(2):
        z = torch.stack([x[n, c].sum() / 15 for c in range(32)])
        hidden = (first.weight[:, :, 0, 0] @ z + first.bias).clamp(min=0)
        scale = 1 / (1 + torch.exp(-(second.weight[:, :, 0, 0] @ hidden + second.bias)))
        for c in range(32):
            assert torch.allclose(out[n, c], scale[c] * x[n, c], atol=1e-6)


def test_squeeze_and_excitation_stand_before_the_shortcut() -> None:
    net = networks.backbone(config(backbone="seresnet50")).eval()
    block = net.get_submodule("layer1.1")
    fc2 = block.get_submodule("se.fc2")
    assert isinstance(fc2, nn.Conv2d)
    assert fc2.bias is not None
    # A closed gate passes only the shortcut.
    with torch.no_grad():
        fc2.weight.zero_()
        fc2.bias.fill_(-1000)
    x = noise(2, 256, 4, 4).relu()
    assert torch.equal(block(x), x)


def test_a_block_of_a_convnext_is_the_papers() -> None:
    torch.manual_seed(0)
    block = ConvNeXtBlock(8)
    w = {name: noise(*value.shape, seed=i) for i, (name, value) in enumerate(block.state_dict().items())}
    block.load_state_dict(w)
    x = noise(2, 8, 9, 7)
    with torch.no_grad():
        out = torch.nn.functional.conv2d(x, w["block.0.weight"], w["block.0.bias"], padding=3, groups=8)
        mean, variance = out.mean(dim=1, keepdim=True), out.var(dim=1, keepdim=True, correction=0)
        out = (out - mean) / torch.sqrt(variance + 1e-6)
        out = out * w["block.2.weight"].view(1, 8, 1, 1) + w["block.2.bias"].view(1, 8, 1, 1)
        out = torch.einsum("oi,nihw->nohw", w["block.3.weight"], out) + w["block.3.bias"].view(1, 32, 1, 1)
        out = out * (1 + torch.erf(out / math.sqrt(2))) / 2
        out = torch.einsum("oi,nihw->nohw", w["block.5.weight"], out) + w["block.5.bias"].view(1, 8, 1, 1)
        assert torch.allclose(block(x), x + w["layer_scale"] * out, atol=1e-3)


def test_the_cnn_is_r2s_layer_by_layer() -> None:
    net = SmallCNN(1).eval()
    head = networks.Siamese(config(backbone="cnn"), ("photo",)).branch("photo").head
    plain = nn.Sequential(
        net.conv1, nn.ReLU(), nn.MaxPool2d(2), net.conv2, nn.ReLU(), nn.MaxPool2d(2),
        net.conv3, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head,
    )  # fmt: skip
    filters = [(conv.out_channels, conv.kernel_size) for conv in (net.conv1, net.conv2, net.conv3)]
    assert filters == [(32, (3, 3)), (64, (3, 3)), (128, (3, 3))]
    assert [(type(m), m.out_features, m.bias is not None) for m in head if isinstance(m, nn.Linear)] == [
        (nn.Linear, 64, True)
    ]
    assert len(head) == 1
    grey = noise(3, 1, 28, 28)
    assert torch.allclose(head(net(grey.expand(3, 3, 28, 28))), plain(grey), atol=1e-5)


def test_kochs_network_is_the_papers_layer_by_layer() -> None:
    torch.manual_seed(0)
    branch = networks.Siamese(config(backbone="koch"), ("photo",)).branch("photo").eval()
    net, head = branch.body, branch.head
    assert isinstance(net, KochNet)
    filters = [(conv.out_channels, conv.kernel_size[0]) for conv in (net.conv1, net.conv2, net.conv3, net.conv4)]
    assert filters == [(64, 10), (128, 7), (128, 4), (256, 4)]
    assert [type(m) for m in head] == [nn.Linear, nn.Sigmoid]
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    plain = nn.Sequential(
        net.conv1, relu, pool, net.conv2, relu, pool, net.conv3, relu, pool, net.conv4, relu, nn.Flatten(), head,
    )  # fmt: skip
    grey = noise(2, 1, 105, 105)
    with torch.no_grad():
        out = branch(grey.expand(2, 3, 105, 105))
        assert out.shape == (2, 4096)
        assert torch.allclose(out, plain(grey), atol=1e-4)
        assert 0 <= out.min() <= out.max() <= 1


def test_kochs_network_is_initialised_as_in_the_paper() -> None:
    torch.manual_seed(0)
    branch = networks.Siamese(config(backbone="koch"), ("photo",)).branch("photo")
    layers = [m for m in branch.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 5
    for layer in layers:
        std = 0.2 if isinstance(layer, nn.Linear) else 0.01
        assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=5 * std / math.sqrt(layer.weight.numel()))
        assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.05)
        assert layer.bias is not None
        assert float(layer.bias.detach().mean()) == pytest.approx(0.5, abs=0.006)
        assert float(layer.bias.detach().std()) == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize(("backbone", "size"), [("cnn", 12), ("koch", 105)])
def test_a_network_of_one_channel_sees_the_mean_over_the_colours(backbone: str, size: int) -> None:
    x = noise(2, 3, size, size)
    grey = x.mean(dim=1, keepdim=True).expand_as(x)
    one, three = (networks.backbone(config(backbone=backbone, channels=n)).eval() for n in (1, 3))
    assert torch.allclose(one(x), one(grey), atol=1e-5)
    assert not torch.allclose(three(x), three(grey), atol=1e-5)
    assert three.get_parameter("conv1.weight").shape[1] == 3


def test_whitening_makes_patches_uncorrelated() -> None:
    x = torch.nn.functional.avg_pool2d(noise(200, 3, 34, 34), 3, 1)
    net = networks.FastNet((8, 8, 8), patch=2, stride=1)
    net.fit_whitening(x)
    out = net.whiten(x)[:, :12].transpose(0, 1).reshape(12, -1)
    covariance = torch.cov(out)
    # The constant under the root damps directions with a small variance.
    assert torch.allclose(covariance, torch.diag(covariance.diagonal()), atol=0.05)
    assert covariance[0, 0] == pytest.approx(1, abs=0.1)
    assert not net.whiten.weight.requires_grad


@each
@pytest.mark.slow
def test_every_backbone_accepts_its_smallest_image_and_states_its_number_of_features(
    network: dict[str, Any], size: int
) -> None:
    made = config(**network)
    net = networks.backbone(made).eval()
    for side in {made.min_size, size, made.max_size or size}:
        out = net(noise(2, 3, side, side))
        assert out.shape == (2, net.outputs)
        assert out.isfinite().all()


@pytest.mark.parametrize(
    "network",
    [n for n, _ in EACH if n["backbone"] in {"vgg16", "convnext_tiny", "koch"}],
    ids=lambda n: str(n["backbone"]),
)
def test_an_image_below_the_smallest_fails(network: dict[str, Any]) -> None:
    made = config(**network)
    side = made.min_size - 1
    with pytest.raises(RuntimeError):
        networks.Siamese(made, ("photo",)).eval()(noise(2, 3, side, side))


# ---- recipes


@pytest.mark.parametrize(
    ("network", "size", "fits"),
    [
        ("{backbone: koch}", 104, "between 105 and 112"),
        ("{backbone: koch}", 113, "between 105 and 112"),
        ("{backbone: vgg16}", 31, "at least 32"),
        ("{backbone: convnext_tiny}", 31, "at least 32"),
        ("{backbone: fast, patch: 4, stride: 2}", 17, "at least 18"),
    ],
)
def test_image_sizes_that_do_not_fit_a_network_are_refused_with_those_that_do(
    network: str, size: int, fits: str
) -> None:
    toyshop = RECIPES / "toyshop.yaml"
    overrides = [f"network={network}", "augment.shift=0"]
    with pytest.raises(RecipeError, match=rf"{fits} pixels, not of {size}"):
        recipe.read(toyshop, [*overrides, f"data.size={size}"])
    inside = size + 1 if "at least" in fits or size < 105 else size - 1
    assert recipe.read(toyshop, [*overrides, f"data.size={inside}"]).stages[0].data.size == inside


def test_a_recipe_refuses_imagenet_for_a_network_without_a_package_of_its_weights() -> None:
    with pytest.raises(RecipeError, match=r"weights: imagenet names weights of efficientnet_lite0.*hf://org/repo"):
        recipe.read(RECIPES / "toyshop.yaml", ["network={backbone: resnet18, weights: imagenet}"])


@pytest.mark.parametrize("where", ["w.pth", "W.PT", "hf://org/repo/pytorch_model.bin", "a/b.ckpt", "w.pkl"])
def test_a_recipe_refuses_pickles_and_explains_how_to_convert_them(where: str) -> None:
    with pytest.raises(RecipeError, match=r"is a pickle.*weights_only=True"):
        recipe.read(RECIPES / "toyshop.yaml", [f"network={{backbone: resnet18, weights: {where}}}"])


def test_a_recipe_refuses_weights_of_another_format() -> None:
    with pytest.raises(RecipeError, match=r"w\.h5 should be a \.safetensors file, or hf://"):
        recipe.read(RECIPES / "toyshop.yaml", ["network={backbone: vgg16, weights: w.h5}"])


# ---- branches and heads


@each
@pytest.mark.slow
def test_branches_share_late_layers_and_head_but_not_early_ones(network: dict[str, Any], size: int) -> None:
    net = networks.Siamese(config(**network), ("photo", "sketch")).eval()
    photo, sketch = net.branch("photo"), net.branch("sketch")
    *late, head = net.shared
    assert (late[0], head) == (config(**network).shared_from, "head")
    for layer in late:
        assert photo.body.get_submodule(layer) is sketch.body.get_submodule(layer)
    assert photo.head is sketch.head
    early = [n for n, _ in photo.body.named_parameters() if not n.startswith(tuple(f"{layer}." for layer in late))]
    assert early
    for name in early:
        assert photo.body.get_parameter(name) is not sketch.body.get_parameter(name)
        assert torch.equal(photo.body.get_parameter(name), sketch.body.get_parameter(name))
    with torch.no_grad():
        # They start with equal weights, and training changes them apart.
        photo.body.get_parameter(early[0]).add_(noise(*photo.body.get_parameter(early[0]).shape))
        x, is_sketch = noise(4, 3, size, size), torch.tensor([False, True, True, False])
        mixed = net(x, is_sketch)
        assert torch.allclose(mixed[is_sketch], sketch(x[is_sketch]), atol=1e-4)
        assert torch.allclose(mixed[~is_sketch], photo(x[~is_sketch]), atol=1e-4)
        assert not torch.allclose(mixed, net(x), atol=1e-4)


@pytest.mark.parametrize("neck", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_a_head_has_a_neck_or_a_bias_and_perhaps_length_1(*, neck: bool, unit: bool) -> None:
    branch = networks.Siamese(config(backbone="cnn", neck=neck, unit=unit, dimension=5), ("photo",)).branch("photo")
    projection = branch.head[0]
    assert isinstance(projection, nn.Linear)
    assert (projection.bias is None) == neck
    assert [type(m) for m in branch.head] == [nn.Linear, nn.BatchNorm1d][: 1 + neck]
    x = noise(6, 3, 8, 8)
    out = branch.train()(x)
    assert out.shape == (6, 5)
    lengths = out.norm(dim=1)
    assert torch.allclose(lengths, torch.ones(6), atol=1e-5) == unit
    raw = branch.head(branch.body(x))
    assert torch.allclose(out, raw / raw.norm(dim=1, keepdim=True) if unit else raw, atol=1e-5)


@pytest.mark.parametrize("unit", [True, False])
def test_a_mirroring_branch_embeds_an_image_and_its_mirror_image_alike(*, unit: bool) -> None:
    net = networks.Siamese(config(backbone="cnn", mirror=True, unit=unit), ("photo",)).branch("photo")
    x = noise(4, 3, 9, 9)
    # In training an image is not mirrored.
    assert not torch.allclose(net.train()(x), net(x.flip(3)), atol=1e-4)
    once, mirrored = net(x), net(x.flip(3))
    out = net.eval()(x)
    assert torch.allclose(out, net(x.flip(3)), atol=1e-6)
    mean = (once + mirrored) / 2
    assert torch.allclose(out, mean / mean.norm(dim=1, keepdim=True) if unit else mean, atol=1e-5)


def test_default_networks_have_the_documented_embeddings() -> None:
    defaults = {n: config(backbone=n) for n in ("fast", "resnet18", "cnn", "koch")}
    assert {n: (c.dimension, c.unit, c.neck) for n, c in defaults.items()} == {
        "fast": (128, True, True),
        "resnet18": (128, True, True),
        "cnn": (64, False, False),
        "koch": (4096, False, False),
    }


# ---- public weights


def public(name: str, **more: object) -> dict[str, Tensor]:
    """Make published weights: a backbone without batch counts, and a classifier."""
    torch.manual_seed(7)
    state = networks.backbone(config(backbone=name, **more)).state_dict()
    classifier = {"fc.weight": noise(10, 512), "head.fc.bias": noise(10), "pre_logits.fc1.bias": noise(9)}
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")} | classifier


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(public("resnet18"), path)
    return path


def start_from(where: object, backbone: str = "resnet18", **more: object) -> networks.Backbone:
    return networks.backbone(config(backbone=backbone, weights=str(where), **more))


def test_public_weights_are_loaded_into_every_branch_without_their_classifier(resnet18: Path) -> None:
    torch.manual_seed(8)
    net = networks.Siamese(config(backbone="resnet18", weights=str(resnet18)), ("photo", "sketch"))
    want = public("resnet18")
    for name in ("photo", "sketch"):
        state = net.branches[name].get_submodule("body").state_dict()
        assert all(torch.equal(v, want[k]) for k, v in state.items() if not k.endswith("num_batches_tracked"))
    assert all(p.requires_grad for p in net.parameters())


def test_a_complete_state_dict_loads_from_a_file_in_any_floating_type(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = networks.backbone(config(backbone="vgg16"))
    save_file({k: v.half() for k, v in first.state_dict().items()}, tmp_path / "vgg.safetensors")
    second = start_from(tmp_path / "vgg.safetensors", "vgg16")
    for name, tensor in second.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, first.state_dict()[name].half().float())


def test_batch_counts_are_optional(tmp_path: Path) -> None:
    save_file(public("resnet18") | {"bn1.num_batches_tracked": torch.tensor(5)}, tmp_path / "w.safetensors")
    state = start_from(tmp_path / "w.safetensors").state_dict()
    assert int(state["bn1.num_batches_tracked"]) == 5
    assert int(state["layer1.0.bn1.num_batches_tracked"]) == 0


def timms_name(name: str) -> str:
    """Return timm's name of a ConvNeXt's parameter, for torchvision's."""
    parts = name.split(".")
    if parts[0] == "classifier":
        return ".".join(("head", {"0": "norm", "2": "fc"}[parts[1]], parts[2]))
    stage, rest = int(parts[1]), parts[2:]
    if stage == 0:
        return ".".join(("stem", *rest))
    if stage % 2 == 0:
        return ".".join((f"stages.{stage // 2}.downsample", *rest))
    block = f"stages.{stage // 2}.blocks.{rest[0]}"
    if rest[1] == "layer_scale":
        return f"{block}.gamma"
    return f"{block}.{ {'0': 'conv_dw', '2': 'norm', '3': 'mlp.fc1', '5': 'mlp.fc2'}[rest[2]] }.{rest[3]}"


@pytest.fixture(scope="module")
def convnext() -> dict[str, Tensor]:
    """Return published weights of a ConvNeXt, with torchvision's names and classifier."""
    torch.manual_seed(3)
    state = networks.backbone(config(backbone="convnext_tiny")).state_dict()
    scales = {k: torch.rand_like(v) for k, v in state.items() if k.endswith("layer_scale")}
    return state | scales | {"classifier.2.weight": noise(10, 768), "classifier.2.bias": noise(10)}


def test_a_convnext_takes_torchvisions_and_timms_weights(convnext: dict[str, Tensor], tmp_path: Path) -> None:
    timms = {timms_name(k): v.flatten() if k.endswith("layer_scale") else v for k, v in convnext.items()}
    assert {"stem.0.weight", "stages.0.blocks.2.gamma", "stages.3.downsample.1.bias", "head.norm.weight"} <= set(timms)
    assert "stages.3.blocks.1.mlp.fc2.weight" in timms
    for name, weights in (("torchvision", convnext), ("timm", timms)):
        save_file(weights, tmp_path / f"{name}.safetensors")
        state = start_from(tmp_path / f"{name}.safetensors", "convnext_tiny").state_dict()
        assert set(state) == set(convnext) - {"classifier.2.weight", "classifier.2.bias"}
        assert all(torch.equal(value, convnext[key]) for key, value in state.items())


def test_weights_of_a_convnext_name_the_network_that_they_fit(convnext: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({timms_name(k): v for k, v in convnext.items()}, tmp_path / "w.safetensors")
    for backbone in ("convnext_small", "resnet18"):
        with pytest.raises(MismatchError, match=r"It fits the recipe's network with backbone: convnext_tiny\."):
            start_from(tmp_path / "w.safetensors", backbone)


@pytest.mark.parametrize(
    ("backbone", "more", "words"),
    [
        ("resnet18", {"stem": "small"}, r"conv1\.weight is 64×3×7×7, not 64×3×3×3\. .*resnet18, stem: imagenet"),
        (
            "resnet34",
            {},
            r"lacks layer1\.2\.conv1\.weight, .* and \d+ more\. It fits .*backbone: resnet18, stem: imagenet",
        ),
        ("vgg16", {}, r"lacks features\.0\.weight.*which the network does not have\. .*backbone: resnet18"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_network_that_they_fit(
    resnet18: Path, backbone: str, more: dict[str, object], words: str
) -> None:
    with pytest.raises(MismatchError, match=words) as caught:
        start_from(resnet18, backbone, **more)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {f"module.{k}": v for k, v in w.items()}, "begin with “module.”"),
        (lambda w: {f"model.{k}": v for k, v in w.items()}, "begin with “model.”"),
        (lambda w: {k: v for k, v in w.items() if k != "bn1.bias"}, r"it lacks bn1\.bias\. It does not match"),
        (lambda w: w | {"extra": torch.zeros(1)}, "it has extra, which the network does not have"),
        (lambda w: w | {"bn1.bias": torch.zeros(())}, r"bn1\.bias is one number, not 64\."),
        (lambda w: w | {"bn1.bias": torch.zeros(64).char()}, r"bn1\.bias is 64 of whole numbers, not 64\."),
        (lambda _w: {}, r"it lacks conv1\.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_difference(change: Any, words: str, tmp_path: Path) -> None:  # noqa: ANN401 -- a lambda
    save_file(change(public("resnet18")), tmp_path / "w.safetensors")
    with pytest.raises(MismatchError, match=words):
        start_from(tmp_path / "w.safetensors")


def test_missing_or_damaged_weights_are_reported(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.safetensors cannot be read"):
        start_from(tmp_path / "none.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(NotFoundError, match="cannot be read"):
        start_from(tmp_path / "folder.safetensors")
    torch.save({"w": torch.zeros(3)}, tmp_path / "pickle.safetensors")
    (tmp_path / "empty.safetensors").touch()
    for name in ("pickle", "empty"):
        with pytest.raises(RecipeError, match=rf"{name}\.safetensors are not a safetensors file, or are damaged"):
            start_from(tmp_path / f"{name}.safetensors")


def test_weights_come_from_a_hub_by_repository_revision_and_file(
    resnet18: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.safetensors", "sub/other.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(resnet18)
    requests: list[tuple[str, str | None, list[str]]] = []

    def snapshot_download(
        repo: str, *, revision: str | None, allow_patterns: list[str], tqdm_class: type[object]
    ) -> str:
        requests.append((repo, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    for name in ("huggingface_hub.utils", "huggingface_hub.utils.tqdm"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(tqdm=object))
    want = public("resnet18")["conv1.weight"]
    for address in ("hf://timm/resnet18.a1_in1k", "hf://timm/resnet18@v2", "hf://org/repo@v2/sub/other.safetensors"):
        assert torch.equal(start_from(address).get_parameter("conv1.weight"), want)
    assert requests == [
        ("timm/resnet18.a1_in1k", None, ["model.safetensors"]),
        ("timm/resnet18", "v2", ["model.safetensors"]),
        ("org/repo", "v2", ["sub/other.safetensors"]),
    ]
    with pytest.raises(NotFoundError, match=r"hf://org/repo has no file none\.safetensors; name one"):
        start_from("hf://org/repo/none.safetensors")
    with pytest.raises(RecipeError, match=r"should name a \.safetensors file"):
        start_from("hf://org/repo/model.onnx")
    for address in ("hf://org", "hf://", "hf:///repo", "hf://org/@v1"):
        with pytest.raises(UsageError, match="org/repo"):
            start_from(address)


FETCH = """
import sys
import torch
from pydantic import TypeAdapter
from lookalike.errors import LookalikeError
from lookalike.learn import networks, recipe

for where in sys.argv[1:]:
    config = TypeAdapter(recipe.Network).validate_python({"backbone": "resnet18", "weights": where})
    try:
        print(networks.backbone(config).get_parameter("conv1.weight").sum().item())
    except LookalikeError as e:
        print(type(e).__name__, e)
"""


@pytest.mark.slow
def test_weights_are_fetched_over_http(resnet18: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    repository = tmp_path / "hub" / "org" / "repo"
    for name in ("model.safetensors", "sub/other.safetensors"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(resnet18, repository / name)
    addresses = [
        "hf://org/repo",
        "hf://org/repo@v1/sub/other.safetensors",
        "hf://org/repo/none.safetensors",
        "hf://org/repo@v2",
        "hf://org/missing",
    ]

    def fetch(address: str, *offline: str) -> list[str]:
        # The client reads its settings when it is imported.
        env = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")} | dict.fromkeys(offline, "1")
        run = subprocess.run(
            [sys.executable, "-c", FETCH, *addresses], env=env, capture_output=True, text=True, check=True
        )
        return run.stdout.splitlines()

    with serving(hub_of(tmp_path / "hub")) as server:
        first, second, *errors = fetch(server)
    want = public("resnet18")["conv1.weight"].sum().item()
    assert float(first) == float(second) == want
    # One line each, although the client's own messages have several.
    assert [line.partition(" ")[0] for line in errors] == ["NotFoundError"] * 3
    assert "has no file none.safetensors" in errors[0]
    assert "hf://org/repo@v2 cannot be fetched" in errors[1]
    # Fetched weights need no network.
    assert [float(line) for line in fetch(server, "HF_HUB_OFFLINE")[:2]] == [want, want]


def test_a_hub_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"Weights from a hub needs the extra “hub”"):
        start_from("hf://timm/resnet18.a1_in1k")


# ---- export


# seresnet50 has all layers of resnet50, whose export takes ten seconds.
EXPORTED = [(network, size) for network, size in EACH if network["backbone"] != "resnet50"]


@pytest.mark.parametrize(("network", "size"), EXPORTED, ids=[str(n["backbone"]) for n, _ in EXPORTED])
@pytest.mark.slow
@pytest.mark.no_cover  # torch's exporter would take half as long again
def test_every_backbone_is_exported_and_onnx_runtime_agrees(network: dict[str, Any], size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = networks.Siamese(config(**network), ("photo",)).eval()
    onnx.save(export.with_float16_weights(to_onnx(net.branch("photo"), size)), tmp_path / "photo.onnx")
    graph.check((tmp_path / "photo.onnx").read_bytes())
    # Three images, because the program was traced with two.
    x = noise(3, 3, size, size)
    with torch.inference_mode():
        want = net(x).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "photo.onnx", providers=["CPUExecutionProvider"])
    out = session.run(None, {"pictures": x.numpy()})[0]
    # float16 weights move embeddings much less than different images do.
    difference, spread = np.abs(out - want).max(), np.abs(want[0] - want[1]).max()
    assert difference < 1e-3
    assert difference < spread / 10
