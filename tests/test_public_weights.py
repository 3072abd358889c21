"""Public encoders whose weights have no graph: the layouts of timm and OpenCLIP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import lookalike as la
from lookalike import encoders
from lookalike.embedding import Embedder
from lookalike.errors import EncoderError, UsageError
from lookalike.learn.networks.resnet import ResNet
from public_encoders import IMAGENET, resized

SIZE = 32
MIT = "---\nlicense: mit\n---\n"

CLIP_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
}

TIMM_CONFIG: dict[str, Any] = {
    "architecture": "resnet18",
    "num_classes": 1000,
    "num_features": 512,
    "pretrained_cfg": {
        "input_size": [3, SIZE, SIZE],
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "num_classes": 1000,
        "classifier": "fc",
    }
    | IMAGENET,
}


class PlainTransformer(nn.Module):
    """CLIP's vision transformer of torch's own attention, with OpenCLIP's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(64))
        self.positional_embedding = nn.Parameter(torch.randn(17, 64))
        self.ln_pre, self.ln_post = nn.LayerNorm(64), nn.LayerNorm(64)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(self._block() for _ in range(2))
        self.proj = nn.Parameter(torch.randn(64, 24))

    @staticmethod
    def _block() -> nn.Module:
        block = nn.Module()
        block.ln_1, block.ln_2 = nn.LayerNorm(64), nn.LayerNorm(64)
        block.attn = nn.MultiheadAttention(64, 2, batch_first=True)
        block.mlp = nn.ModuleDict({"c_fc": nn.Linear(64, 256), "c_proj": nn.Linear(256, 64)})
        return block

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(x), 1, 64), x], 1)
        x = self.ln_pre(x + self.positional_embedding)
        block: Any
        for block in self.transformer.resblocks:  # type: ignore[union-attr]
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, need_weights=False)[0]
            y = block.mlp["c_fc"](block.ln_2(x))
            x = x + block.mlp["c_proj"](y * torch.sigmoid(1.702 * y))
        projected: Tensor = self.ln_post(x[:, 0]) @ self.proj
        return projected


def write_clip(folder: Path, network: nn.Module, config: dict[str, Any] = CLIP_CONFIG) -> Path:
    folder.mkdir()
    weights = {f"visual.{name}": value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights | {"logit_scale": torch.tensor(4.6)}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "README.md").write_text(MIT, encoding="utf-8")
    return folder


def write_timm(folder: Path, network: nn.Module, config: dict[str, Any] = TIMM_CONFIG) -> Path:
    folder.mkdir()
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights | {"fc.weight": torch.zeros(1000, 512)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@torch.inference_mode()
def expect(network: nn.Module, images: list[Image.Image], scale: dict[str, Any], **how: Any) -> np.ndarray:  # noqa: ANN401 -- passed on
    mean, std = (torch.tensor(scale[key]).view(3, 1, 1) for key in ("mean", "std"))
    fitted = torch.stack([torch.from_numpy(resized(image, **how)) for image in images])
    return np.asarray(network.eval()((fitted - mean) / std))


def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(97, 61), (60, 90), (64, 64)]
    return [Image.fromarray(rng.integers(0, 256, (h // 6, w // 6, 3), np.uint8)).resize((w, h)) for w, h in sizes]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.slow
def test_weights_of_open_clip_are_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PlainTransformer()
    folder = write_clip(tmp_path / "clip", network)
    with pytest.raises(UsageError, match="lookalike encoders --fetch"):
        encoders.load(folder)
    encoder = la.fetch_encoder(str(folder))
    assert (encoder.card.dimension, encoder.card.licence) == (24, "mit")
    embeddings = Embedder.of(encoder).embed(photos())
    expected = expect(network, photos(), CLIP_CONFIG["preprocess_cfg"], side=SIZE, fit="crop")
    assert cosines(embeddings, expected).min() > 0.9999


@pytest.mark.slow
def test_weights_of_timm_are_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResNet("resnet18", small=False)
    folder = write_timm(tmp_path / "resnet", network)
    encoder = la.fetch_encoder(str(folder))
    assert encoder.card.origin is not None
    assert (encoder.card.dimension, encoder.card.origin.layout) == (512, "timm")
    assert encoders.load(folder).folder == encoder.folder  # it was exported
    embeddings = Embedder.of(encoder).embed(photos())
    expected = expect(network, photos(), IMAGENET, side=36, fit="crop", interpolation="bilinear")
    assert cosines(embeddings, expected).min() > 0.9999


def changed(config: dict[str, Any], *path: str, to: object) -> dict[str, Any]:
    tree = json.loads(json.dumps(config))
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return dict(tree)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (
            changed(CLIP_CONFIG, "model_cfg", "vision_cfg", "timm_model_name", to="vit_pe_core"),
            UsageError,
            "timm_model_name",
        ),
        (changed(CLIP_CONFIG, "model_cfg", "vision_cfg", "pool_type", to="avg"), UsageError, "pool_type"),
        (changed(CLIP_CONFIG, "model_cfg", "vision_cfg", "width", to=10**9), EncoderError, "width 1000000000"),
        (changed(CLIP_CONFIG, "model_cfg", "vision_cfg", "head_width", to=48), EncoderError, "do not fit together"),
        (changed(CLIP_CONFIG, "model_cfg", "embed_dim", to="many"), EncoderError, "embed_dim many"),
        (changed(CLIP_CONFIG, "model_cfg", "vision_cfg", "layers", to=3), EncoderError, "it lacks"),
        (changed(CLIP_CONFIG, "model_cfg", to=[]), EncoderError, "not of OpenCLIP"),
        (changed(CLIP_CONFIG, "preprocess_cfg", "resize_mode", to="longest"), EncoderError, "longest"),
    ],
)
def test_a_clip_that_cannot_be_built_is_refused(
    tmp_path: Path, config: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as e:
        la.fetch_encoder(str(write_clip(tmp_path / "clip", PlainTransformer(), config)))
    assert "\n" not in str(e.value)


def damage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no safetensors")


@pytest.mark.parametrize(
    ("config", "damaged", "error", "message"),
    [
        (changed(TIMM_CONFIG, "architecture", to="vit_base_patch16_224"), None, UsageError, "vit_base_patch16_224"),
        (changed(TIMM_CONFIG, "architecture", to="resnet34"), None, EncoderError, "not of the architecture resnet34"),
        ({"hidden_size": 384}, None, EncoderError, "not of timm"),
        (TIMM_CONFIG, damage, la.LookalikeError, "not a safetensors file"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path,
    config: dict[str, Any],
    damaged: Callable[[Path], None] | None,
    error: type[Exception],
    message: str,
) -> None:
    network = nn.Linear(2, 2)
    folder = write_timm(tmp_path / "timm", network, config)
    if damaged:
        damaged(folder)
    with pytest.raises(error, match=message) as e:
        la.fetch_encoder(str(folder))
    assert "\n" not in str(e.value)
