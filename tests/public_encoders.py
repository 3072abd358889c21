"""Small public encoders in the layouts of other tools, and a plain implementation of each to compare with."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE, PATCH, WIDTH, DIMENSION = 32, 8, 24, 16

Scale = dict[str, list[float]]
IMAGENET: Scale = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CLIP: Scale = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
HALF: Scale = {"mean": [0.5] * 3, "std": [0.5] * 3}


class Weights:
    """The weights of a network of one layer: patches, a class token, and a projection of the mean."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.patch = rng.normal(0, 0.1, (WIDTH, 3, PATCH, PATCH)).astype(np.float32)
        self.token = rng.normal(0, 0.5, (WIDTH, WIDTH)).astype(np.float32)
        self.projection = rng.normal(0, 0.5, (WIDTH, DIMENSION)).astype(np.float32)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute all outputs of normalised images ``(n, 3, SIZE, SIZE)`` in plain NumPy."""
        n, cells = len(images), SIZE // PATCH
        cut = images.reshape(n, 3, cells, PATCH, cells, PATCH)
        maps = np.tanh(np.einsum("nciajb,dcab->ndij", cut, self.patch))
        mean = maps.mean((2, 3))
        tokens = np.concatenate([(mean @ self.token)[:, None], maps.reshape(n, WIDTH, -1).transpose(0, 2, 1)], 1)
        return {
            "last_hidden_state": tokens,
            "maps": maps,
            "pooler_output": np.tanh(mean @ self.token),
            "image_embeds": mean @ self.projection,
            "logits": mean @ self.token,
        }

    def network(
        self, outputs: Sequence[str], batch: str | int = "batch_size", input_name: str = "pixel_values"
    ) -> onnx.ModelProto:
        """Write the same as ONNX, with some of the outputs."""
        nodes = [
            helper.make_node("Conv", [input_name, "patch"], ["conv"], strides=[PATCH, PATCH]),
            helper.make_node("Tanh", ["conv"], ["maps"]),
            helper.make_node("ReduceMean", ["maps"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["mean", "token"], ["logits"]),
            helper.make_node("Tanh", ["logits"], ["pooler_output"]),
            helper.make_node("MatMul", ["mean", "projection"], ["image_embeds"]),
            helper.make_node("Reshape", ["logits", "as_token"], ["class"]),
            helper.make_node("Reshape", ["maps", "as_columns"], ["columns"]),
            helper.make_node("Transpose", ["columns"], ["patches"], perm=[0, 2, 1]),
            helper.make_node("Concat", ["class", "patches"], ["last_hidden_state"], axis=1),
        ]
        shapes: dict[str, list[str | int]] = {
            "last_hidden_state": [batch, "sequence_length", WIDTH],
            "maps": [batch, WIDTH, "height", "width"],
            "pooler_output": [batch, WIDTH],
            "image_embeds": [batch, DIMENSION],
            "logits": [batch, WIDTH],
        }
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs]
        tensors = [numpy_helper.from_array(getattr(self, name), name) for name in ("patch", "token", "projection")] + [
            helper.make_tensor("as_token", TensorProto.INT64, [3], [0, 1, WIDTH]),
            helper.make_tensor("as_columns", TensorProto.INT64, [3], [0, WIDTH, (SIZE // PATCH) ** 2]),
        ]
        given = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, 3, SIZE, SIZE])
        graph = helper.make_graph(nodes, "public", [given], values, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resized(image: Image.Image, side: int, *, fit: str, interpolation: str = "bicubic") -> np.ndarray:
    """Resize to whole pixels and crop the middle SIZE × SIZE, as torchvision does; values 0…1, ``(3, SIZE, SIZE)``."""
    width, height = image.size
    if fit == "squash":
        shape = (side, side)
    elif width <= height:
        shape = (side, int(side * height / width))
    else:
        shape = (int(side * width / height), side)
    whole = image.convert("RGB").resize(shape, Image.Resampling[interpolation.upper()])
    left, top = (round((length - SIZE) / 2.0) for length in shape)
    pixels = np.asarray(whole.crop((left, top, left + SIZE, top + SIZE)), np.float32)
    return np.asarray(pixels.transpose(2, 0, 1) / 255)


@dataclass(frozen=True)
class Example:
    """A public encoder, and what it must compute.

    Attributes:
        files: JSON and other text by name.
        networks: ONNX files by name.
        side, fit, interpolation, scale: its preprocessing.
        pooled: the embeddings, of all outputs.
        dimension: of the embeddings.
        external: the weights are in a file beside the network.
    """

    files: Mapping[str, Any]
    networks: Mapping[str, onnx.ModelProto]
    side: int
    fit: str
    pooled: Callable[[dict[str, np.ndarray]], np.ndarray]
    dimension: int
    interpolation: str = "bicubic"
    scale: Scale = field(default_factory=lambda: IMAGENET)
    external: bool = False

    def write(self, folder: Path) -> Path:
        """Write its files."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text, encoding="utf-8")
        for name, model in self.networks.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.external:
                # The function moves the weights out of the model that it gets.
                onnx.save(
                    deepcopy(model), path, save_as_external_data=True, location=f"{path.name}_data", size_threshold=0
                )
            else:
                onnx.save(model, path)
        return folder

    def expect(self, images: Sequence[Image.Image], weights: Weights) -> np.ndarray:
        """Compute the embeddings of images."""
        mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (self.scale["mean"], self.scale["std"]))
        fitted = [resized(image, self.side, fit=self.fit, interpolation=self.interpolation) for image in images]
        return self.pooled(weights.run((np.stack(fitted) - mean) / std))


def dinov2(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """Return the ``preprocessor_config.json`` of DINOv2, of a smaller size."""
    return {
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": IMAGENET["mean"],
        "image_processor_type": "BitImageProcessor",
        "image_std": IMAGENET["std"],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 37},
    } | changes


SIGLIP = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": SIZE, "width": SIZE},
}

CONVNEXT = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": IMAGENET["mean"],
    "image_std": IMAGENET["std"],
    "resample": 3,
    "size": {"shortest_edge": SIZE},
}


def examples(weights: Weights) -> dict[str, Example]:
    """Make a public encoder in each layout of ONNX files."""
    mit = "---\nlicense: mit\ntags: [vision]\n---\n# A model\n"
    hidden, both = ["last_hidden_state"], ["last_hidden_state", "pooler_output"]
    return {
        "transformers.js": Example(  # DINOv2
            {"preprocessor_config.json": dinov2(), "config.json": {"model_type": "dinov2"}, "README.md": mit},
            {"onnx/model.onnx": weights.network(both), "onnx/model_int8.onnx": weights.network(["logits"])},
            37,
            "crop",
            lambda out: out["last_hidden_state"][:, 0],
            WIDTH,
        ),
        "transformers.js, weights beside": Example(  # SigLIP
            {"preprocessor_config.json": SIGLIP, "config.json": {"model_type": "siglip"}, "README.md": mit},
            {"onnx/vision_model.onnx": weights.network(both), "onnx/model.onnx": weights.network(["logits"])},
            SIZE,
            "squash",
            lambda out: out["pooler_output"],
            WIDTH,
            "bilinear",
            scale=HALF,
            external=True,
        ),
        "Immich": Example(
            {
                "visual/preprocess_cfg.json": {
                    "size": [SIZE, SIZE],
                    "mode": "RGB",
                    "interpolation": "bicubic",
                    "resize_mode": "shortest",
                    "fill_color": 0,
                }
                | CLIP,
                "config.json": {"embed_dim": DIMENSION, "vision_cfg": {"image_size": SIZE}},
                "README.md": mit,
            },
            {"visual/model.onnx": weights.network(["image_embeds"], 1, "image")},
            SIZE,
            "crop",
            lambda out: out["image_embeds"],
            DIMENSION,
            scale=CLIP,
        ),
        "fastembed": Example(  # ResNet-50
            {"preprocessor_config.json": CONVNEXT, "config.json": {}, "README.md": mit},
            {"model.onnx": weights.network(["maps"])},
            int(SIZE / 0.875),
            "crop",
            lambda out: out["maps"].mean((2, 3)),
            WIDTH,
        ),
        "lookalike.json": Example(
            {
                "lookalike.json": {"network": "mine.onnx", "size": SIZE, "output": "last_hidden_state", "pool": "mean"}
                | HALF,
                "README.md": mit,
            },
            {"mine.onnx": weights.network([*both, "image_embeds"])},
            SIZE,
            "squash",
            lambda out: out["last_hidden_state"].mean(1),
            WIDTH,
            scale=HALF,
        ),
        "only tokens": Example(
            {
                "preprocessor_config.json": SIGLIP
                | {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}
            },
            {"onnx/model.onnx": weights.network(hidden)},
            SIZE,
            "squash",
            lambda out: out["last_hidden_state"][:, 0],
            WIDTH,
            "bilinear",
            scale=HALF,
        ),
    }
