"""Public encoders whose weights have no graph, in the layouts of timm and OpenCLIP: built here and exported to ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lookalike.encoders import public
from lookalike.encoders.network import one_line
from lookalike.encoders.paths import own_file
from lookalike.encoders.public import Found
from lookalike.errors import EncoderError, MismatchError, UsageError
from lookalike.learn import recipe
from lookalike.learn.networks import backbone
from lookalike.learn.networks.clip import ClipVisionTransformer, Shape
from lookalike.learn.networks.convnext import KINDS as CONVNEXTS
from lookalike.learn.networks.resnet import KINDS as RESNETS
from lookalike.learn.networks.weights import differences
from lookalike.learn.onnx_export import to_onnx

# timm's names of the architectures that are written here, which are also names of backbones.
_ARCHITECTURES = (*RESNETS, "vgg16", *CONVNEXTS)

# The prefix of the image network's weights among those of a whole CLIP.
_VISUAL = "visual."

# The limits of a vision transformer; the largest of OpenCLIP has 1,664 numbers a token and 48 layers.
_MOST = {"width": 2048, "layers": 64, "patch_size": 64, "head_width": 256, "embed_dim": 4096}

# Settings of vision transformers that `networks.clip` does not have.
_DIFFERENT = (
    "timm_model_name",
    "attentional_pool",
    "no_ln_pre",
    "final_ln_after_pool",
    "ls_init_value",
    "pos_embed_type",
    "act_kwargs",
    "norm_kwargs",
)


def make(found: Found) -> Path:
    """Fetch the weights of a public encoder, build its network, export it and write the artefact.

    Returns:
        The artefact's folder.

    Raises:
        UsageError: lookalike does not have its architecture.
        EncoderError: the weights are damaged, or are not of the architecture that the configuration names.
        NotFoundError: they cannot be fetched.
        StorageError: the cache cannot be written.
    """
    model = found.description.model or {}
    open_clip = found.layout.kind == "OpenCLIP"
    # Before the download.
    prepared = _clip_shape(model, found) if open_clip else _architecture(model, found)
    folder, files = public.fetch_network(found)
    path = own_file(folder, found.description.network)
    network = _clip(prepared, path) if isinstance(prepared, Shape) else _timm(prepared, path)
    content = to_onnx(network.float().eval(), found.description.input.size).SerializeToString()
    outputs = network.outputs
    assert isinstance(outputs, int)  # noqa: S101 -- of all networks here
    return public.write(found, content, None, outputs, files)


def _architecture(model: Mapping[str, Any], found: Found) -> str:
    name = str(model.get("architecture", ""))
    if name not in _ARCHITECTURES:
        raise UsageError(
            f"“{found.name}” is a {one_line(name)}, which lookalike cannot build. It builds {', '.join(_ARCHITECTURES)}; export others"
            " to ONNX with timm, and describe them in a lookalike.json."
        )
    return name


def _timm(name: str, path: Path) -> nn.Module:
    fields: dict[str, Any] = {"backbone": name, "weights": str(path)}
    try:
        config: recipe.Network = TypeAdapter(recipe.Network).validate_python(fields)
        return backbone(config)
    except (ValidationError, MismatchError) as e:
        raise EncoderError(f"{path} is not of the architecture {name}: {one_line(e)}") from e


def _clip_shape(model: Mapping[str, Any], found: Found) -> Shape:
    vision = model["vision_cfg"]
    wrong = [key for key in _DIFFERENT if vision.get(key)]
    if vision.get("pool_type", "tok") != "tok" or wrong:
        raise UsageError(
            f"“{found.name}” is not one of CLIP's plain vision transformers ({one_line(', '.join(wrong) or 'pool_type')}), which"
            " lookalike builds. Use an ONNX export of it, such as Immich's, or describe one in a lookalike.json."
        )
    width, patch = _whole(vision, "width", 768), _whole(vision, "patch_size", 16)
    head, layers = _whole(vision, "head_width", 64), _whole(vision, "layers", 12)
    ratio = vision.get("mlp_ratio", 4.0)
    size = found.description.input.size
    if not isinstance(ratio, int | float) or not 0 < ratio <= 8 or width % head or size % patch:  # noqa: PLR2004 -- 4 as a rule
        raise EncoderError(f"The vision_cfg of “{found.name}” has sizes that do not fit together.")
    quick = model.get("quick_gelu") is True
    return Shape(size, patch, width, layers, head, int(width * ratio), _whole(model, "embed_dim", 0), quick)


def _whole(tree: Mapping[str, Any], key: str, default: int) -> int:
    value = tree.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST[key]:
        raise EncoderError(f"The configuration has {key} {one_line(value)}; it is a whole number up to {_MOST[key]:,}.")
    return value


def _clip(shape: Shape, path: Path) -> nn.Module:
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as e:
        raise EncoderError(f"{path} is not a safetensors file, or is damaged: {one_line(e)}") from e
    weights = {name.removeprefix(_VISUAL): value for name, value in found.items() if name.startswith(_VISUAL)}
    with torch.device("meta"):
        expected = ClipVisionTransformer(shape).state_dict()
    if problems := differences(expected, weights):
        raise EncoderError(f"{path} does not have the weights that its configuration states: {'; '.join(problems)}.")
    network = ClipVisionTransformer(shape)
    network.load_state_dict(weights)
    return network
