"""Preprocessing of public encoders: the configurations of transformers, fastembed, Immich, OpenCLIP and timm."""

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any, Literal, cast, get_args

from pydantic import ValidationError

from lookalike.encoders.card import Input
from lookalike.encoders.network import one_line
from lookalike.errors import plain_reason
from lookalike.images import Interpolation

Tree = Mapping[str, Any]
"""A JSON object of a stranger."""

# Pillow's numbers of its filters, which transformers writes into files.
_FILTERS: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}

# Classes of transformers for which one number as `size` is both sides; for others it is the shorter side.
_SQUARE = ("ViT", "DeiT", "Beit", "Siglip", "Swin")

# The mean and std of OpenAI's CLIP, the defaults of OpenCLIP.
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# ConvNeXt's processor enlarges the shorter side by this before it crops, up to this size.
_CONVNEXT_CROP, _CONVNEXT_SQUASHES_FROM = 224 / 256, 384


class ConfigurationError(ValueError):
    """A configuration cannot be followed. The text continues a sentence that begins with the name of its file."""


def of_transformers(tree: Tree) -> Input:
    """Read ``preprocessor_config.json``, which transformers, transformers.js and fastembed use.

    Raises:
        ConfigurationError: it asks for something that lookalike does not do.
    """
    kind = str(tree.get("image_processor_type") or tree.get("feature_extractor_type") or "")
    if tree.get("do_pad") or tree.get("do_flip_channel_order"):
        wrong = "do_pad" if tree.get("do_pad") else "do_flip_channel_order"
        raise ConfigurationError(f"asks for {wrong}, which lookalike does not do. Use another encoder.")
    if not tree.get("do_resize", True):
        raise ConfigurationError("does not resize images, so their size is unknown. Use another encoder.")
    height, width, shorter = _size(tree.get("size"), "size", square=kind.startswith(_SQUARE))
    how = "squash" if shorter is None else "crop"
    side = size = shorter or height
    if height != width:
        raise ConfigurationError(
            f"makes images of {width} × {height} pixels; lookalike makes squares. Use another encoder."
        )
    if kind.startswith("ConvNext"):
        how, side = _convnext(size, tree.get("crop_pct"))
    elif kind.startswith("JinaCLIP"):
        if tree.get("resize_mode", "shortest") != "shortest":
            raise _unknown("resize_mode", tree["resize_mode"])
        how = "crop"
    elif tree.get("do_center_crop"):
        size = _side(tree.get("crop_size", size), "crop_size")
    elif how == "crop":
        raise ConfigurationError("does not crop images to squares. Use another encoder.")
    scale = _number(tree.get("rescale_factor", 1 / 255), "rescale_factor") if tree.get("do_rescale", True) else 1.0
    plain = not tree.get("do_normalize", True)
    mean = (0.0, 0.0, 0.0) if plain else _three(tree.get("image_mean", tree.get("mean")), "image_mean")
    std = (1.0, 1.0, 1.0) if plain else _three(tree.get("image_std", tree.get("std")), "image_std")
    resample = tree.get("resample", tree.get("interpolation", 3))
    return _input(
        size, how, side, _filter(resample), [m / (255 * scale) for m in mean], [s / (255 * scale) for s in std]
    )


def _convnext(size: int, crop_share: object) -> tuple[str, int]:
    if size >= _CONVNEXT_SQUASHES_FROM:
        return "squash", size
    return "crop", int(size / _share(_CONVNEXT_CROP if crop_share is None else crop_share))


def of_open_clip(tree: Tree, size: object = None) -> Input:
    """Read the preprocessing of OpenCLIP: ``preprocess_cfg`` in ``open_clip_config.json``, or Immich's ``preprocess_cfg.json``.

    Args:
        tree: its content.
        size: pixels a side, if it does not say.

    Raises:
        ConfigurationError: it asks for something that lookalike does not do.
    """
    mode = tree.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash"):
        raise _unknown("resize_mode", mode)
    side = _side(tree.get("size", size), "size")
    mean, std = tree.get("mean") or _CLIP_MEAN, tree.get("std") or _CLIP_STD
    how = "crop" if mode == "shortest" else "squash"
    return _input(
        side, how, side, _filter(tree.get("interpolation", "bicubic")), _three(mean, "mean"), _three(std, "std")
    )


def of_timm(tree: Tree) -> Input:
    """Read ``pretrained_cfg`` in timm's ``config.json``: the size of training, as timm evaluates by default.

    Raises:
        ConfigurationError: it asks for something that lookalike does not do.
    """
    mode = tree.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise _unknown("crop_mode", mode)
    shape = tree.get("input_size", (3, 224, 224))
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:  # noqa: PLR2004 -- channels, height, width
        raise _unknown("input_size", shape)
    size = _side(list(shape[1:]), "input_size")
    side = floor(size / _share(tree.get("crop_pct") or 0.875))
    mean, std = _three(tree.get("mean"), "mean"), _three(tree.get("std"), "std")
    interpolation = tree.get("interpolation") or "bicubic"
    return _input(size, "squash" if mode == "squash" else "crop", side, _filter(interpolation), mean, std)


def _input(
    size: int, how: str, side: int, interpolation: Interpolation, mean: Sequence[float], std: Sequence[float]
) -> Input:
    fit = cast('Literal["squash", "crop"]', how)
    fields = {"size": size, "fit": fit, "resize": side, "interpolation": interpolation, "mean": mean, "std": std}
    try:
        return Input.model_validate(fields)
    except ValidationError as e:
        first = e.errors()[0]
        where = one_line(".".join(map(str, first["loc"])) or "the sizes")
        raise ConfigurationError(f"cannot be followed; {where}: {one_line(plain_reason(first['msg']))}.") from e


def _size(value: object, key: str, *, square: bool) -> tuple[int, int, int | None]:
    """Return height, width and shorter side, of which either the first two or the last one counts."""
    if isinstance(value, Mapping) and "shortest_edge" in value:
        return 0, 0, _whole(value["shortest_edge"], key)
    if isinstance(value, Mapping) and {"height", "width"} <= set(value):
        return _whole(value["height"], key), _whole(value["width"], key), None
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:  # noqa: PLR2004 -- height, width
        value = value[0]
    side = _whole(value, key)
    return (side, side, None) if square else (0, 0, side)


def _side(value: object, key: str) -> int:
    """Return the side of a square."""
    height, width, shorter = _size(value, key, square=True)
    if height != width:
        raise _unknown(key, value)
    return shorter or height


def _whole(value: object, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 16:
        raise _unknown(key, value)
    return value


def _number(value: object, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1e6:  # noqa: PLR2004 -- far beyond any pixel
        raise _unknown(key, value)
    return float(value)


def _share(value: object) -> float:
    share = _number(value, "crop_pct")
    if not 0.1 <= share <= 1:  # noqa: PLR2004 -- a crop keeps most of an image
        raise _unknown("crop_pct", value)
    return share


def _three(value: object, key: str) -> tuple[float, ...]:
    values = [value] * 3 if isinstance(value, int | float) else value
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 3:  # noqa: PLR2004 -- channels
        raise _unknown(key, value)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise _unknown(key, value)
    return tuple(float(v) for v in values)


def _filter(value: object) -> Interpolation:
    if isinstance(value, int) and value in _FILTERS:
        return _FILTERS[value]
    if isinstance(value, str) and value.lower() in get_args(Interpolation):
        return cast("Interpolation", value.lower())
    raise _unknown("the interpolation", value)


def _unknown(key: str, value: object) -> ConfigurationError:
    return ConfigurationError(f"has {key} {one_line(value)}, which lookalike does not know. Use another encoder.")
