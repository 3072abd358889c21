"""Layouts of public encoders: which files of a folder are the network and its configuration, and what they say."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.encoders import graph, preprocessing, texts
from lookalike.encoders.card import MAX_DIMENSION, Input, Line, Mean, Output, Std, Text, TokenPool
from lookalike.encoders.network import one_line
from lookalike.encoders.paths import own_file
from lookalike.encoders.preprocessing import ConfigurationError
from lookalike.encoders.texts import TextFiles
from lookalike.errors import EncoderError, UsageError, plain_reason
from lookalike.images import Fit, Interpolation
from lookalike.metric import Metric
from lookalike.untrusted import parsing

Kind = Literal["transformers.js", "fastembed", "Immich", "OpenCLIP", "timm", "lookalike.json"]

SETTINGS = "lookalike.json"
"""The file that describes any ONNX file in a few lines."""

WEIGHTS = ".safetensors"

_MAX_JSON = 1 << 20

_ONNX: tuple[tuple[Kind, str, str], ...] = (
    ("Immich", "visual/model.onnx", "visual/preprocess_cfg.json"),
    ("transformers.js", "onnx/vision_model.onnx", "preprocessor_config.json"),
    ("transformers.js", "onnx/model.onnx", "preprocessor_config.json"),
    ("fastembed", "vision_model.onnx", "preprocessor_config.json"),
    ("fastembed", "model.onnx", "preprocessor_config.json"),
)

# Weights without a graph, which `lookalike.learn` exports.
_SAFETENSORS: tuple[tuple[Kind, str, str], ...] = (
    ("OpenCLIP", "open_clip_model.safetensors", "open_clip_config.json"),
    ("timm", "model.safetensors", "config.json"),
)

_BY_CONFIGURATION: dict[str, Kind] = {"preprocessor_config.json": "transformers.js", "preprocess_cfg.json": "Immich"}

# Outputs that are embeddings, the best first, by the names that exporters give them.
_EMBEDDINGS = ("image_embeds", "image_embedding", "image_embeddings", "embedding", "embeddings", "pooler_output")
_TOKENS = "last_hidden_state"
_SCORES = ("logits", "logits_per_image")

# Models of transformers whose pooler is a layer for a task, or the class token itself: the class token is the embedding.
_CLASS_TOKEN = ("vit", "deit", "dinov2", "dinov3_vit")

# Axes of an output: of maps (n, d, height, width), and of tokens (n, tokens, d).
_MAPS, _VECTORS = 4, 3


class Settings(BaseModel):
    """The contents of ``lookalike.json``, which describes an ONNX file that no tool described.

    It is also what the registry states of a public encoder that has no configuration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: Annotated[str, Field(max_length=200)] = Field(description="the ONNX file, in the same folder or below")
    size: int = Field(description="pixels a side")
    mean: tuple[Mean, Mean, Mean] = Field(description="of values in 0…1, which is subtracted")
    std: tuple[Std, Std, Std] = Field(description="by which the values are then divided")
    fit: Fit = Field(default="squash", description="how an image becomes square")
    resize: int | None = Field(default=None, description="side to resize to before the middle is cropped")
    interpolation: Interpolation = Field(default="bicubic", description="the filter of `resize`")
    output: Line | None = Field(
        default=None, description="name of the output that is the embedding, if there are several"
    )
    pool: TokenPool | None = Field(default=None, description="how the vectors of an image's parts become one")
    dimension: int | None = Field(default=None, gt=0, le=MAX_DIMENSION, description="if the network does not state it")
    metric: Metric = Field(default=Metric.COSINE, description="that compares the embeddings")
    name: Line | None = Field(default=None, min_length=1, description="of the encoder; none: that of the folder")
    description: Text = ""
    licence: Line | None = Field(default=None, description="none: as README.md states")


@dataclass(frozen=True)
class Layout:
    """The files of a public encoder.

    Attributes:
        kind: the tool that uses the layout.
        network: the ONNX file or the safetensors file.
        configuration: the file that describes the preprocessing.
        others: more files that describe it.
        text: the files of its text branch, if it has one.
    """

    kind: Kind
    network: str
    configuration: str
    others: tuple[str, ...] = ()
    text: TextFiles | None = None

    @property
    def needs_learn(self) -> bool:
        """Whether the network is weights without a graph, which `lookalike.learn` exports."""
        return self.network.endswith(WEIGHTS)


def find(names: Collection[str], network: str | None = None) -> Layout | None:
    """Find the layout of a folder by the names of its files; none if it is not a public encoder.

    Args:
        names: of the files, with ``/`` between folders.
        network: an ONNX file to use, instead of the first of those that tools use.
    """
    if network is not None:
        return _around(names, network)
    if SETTINGS in names:
        return Layout("lookalike.json", "", SETTINGS)
    for kind, file, configuration in (*_ONNX, *_SAFETENSORS):
        if file in names and configuration in names:
            return Layout(kind, file, configuration, _others(names, configuration), texts.find(names, file))
    return None


def _around(names: Collection[str], network: str) -> Layout | None:
    """Find the configuration of a network in its folder or in one above."""
    if network not in names:
        return None
    for folder in PurePosixPath(network).parents:
        for file, kind in _BY_CONFIGURATION.items():
            if (configuration := (folder / file).as_posix()) in names:
                others = _others(names, configuration)
                return Layout(kind, network, configuration, others, texts.find(names, network))
    return None


def _others(names: Collection[str], configuration: str) -> tuple[str, ...]:
    return tuple(name for name in ("config.json",) if name in names and name != configuration)


@dataclass(frozen=True)
class Description:
    """What the configuration of a public encoder says.

    Attributes:
        network: the ONNX file or the safetensors file.
        input: the preprocessing.
        output: the output that is the embedding; none: to choose by `choose_output`.
        dimension: numbers an image; none: as the network states.
        model: the content of the configuration of the network itself.
        settings: of a ``lookalike.json``.
    """

    network: str
    input: Input
    output: Output | None = None
    dimension: int | None = None
    model: Mapping[str, Any] | None = None
    settings: Settings | None = None


def describe(folder: Path, layout: Layout) -> Description:
    """Read the configuration of a public encoder.

    Raises:
        EncoderError: it is damaged, or asks for something that lookalike does not do.
    """
    tree = read_json(folder, layout.configuration)
    model = read_json(folder, "config.json") if "config.json" in layout.others else None
    try:
        match layout.kind:
            case "lookalike.json":
                return of_settings(_settings(tree))
            case "Immich":
                return Description(layout.network, preprocessing.of_open_clip(tree), model=model)
            case "transformers.js" | "fastembed":
                return Description(layout.network, preprocessing.of_transformers(tree), model=model)
            case "OpenCLIP":
                return _of_open_clip(layout, tree)
            case "timm":
                return _of_timm(layout, tree)
    except ConfigurationError as e:
        raise EncoderError(f"{folder / layout.configuration} {e}") from e


def _of_open_clip(layout: Layout, tree: Mapping[str, Any]) -> Description:
    model, about = tree.get("model_cfg"), tree.get("preprocess_cfg", {})
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    if not isinstance(vision, dict) or not isinstance(about, dict):
        raise ConfigurationError("has no model_cfg with a vision_cfg, so it is not of OpenCLIP.")
    return Description(layout.network, preprocessing.of_open_clip(about, vision.get("image_size", 224)), model=model)


def _of_timm(layout: Layout, tree: Mapping[str, Any]) -> Description:
    about = tree.get("pretrained_cfg")
    if not isinstance(about, dict) or not isinstance(tree.get("architecture"), str):
        raise ConfigurationError("has no architecture and pretrained_cfg, so it is not of timm.")
    return Description(layout.network, preprocessing.of_timm(about), model=tree)


def of_settings(settings: Settings) -> Description:
    """Return what a ``lookalike.json`` says.

    Raises:
        ConfigurationError: its values do not fit together.
    """
    parts = settings.network.split("/")
    if not set(parts).isdisjoint({"", ".", ".."}) or not settings.network.isprintable() or "\\" in settings.network:
        raise ConfigurationError(
            f"names the network {one_line(settings.network)}, which is not in its folder. Copy it there."
        )
    fields = settings.model_dump(include={"size", "fit", "resize", "interpolation", "mean", "std"})
    if settings.resize is None and settings.fit != "pad":
        fields["resize"] = settings.size
    try:
        spec = Input.model_validate(fields)
    except ValidationError as e:
        raise ConfigurationError(_reason(e)) from e
    output = Output(name=settings.output, pool=settings.pool) if settings.output or settings.pool else None
    return Description(settings.network, spec, output, settings.dimension, settings=settings)


def _settings(tree: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as e:
        raise ConfigurationError(_reason(e)) from e


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    where = one_line(".".join(map(str, first["loc"])) or "the file")
    return f"is not valid; {where}: {one_line(plain_reason(first['msg']))}."


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON object of a public encoder.

    Raises:
        EncoderError: it does not exist, is a link out of the folder, or is not a JSON object.
    """
    path = own_file(folder, name)
    try:
        tree = parsing.read_json(path, _MAX_JSON)
    except parsing.ParseError as e:
        raise EncoderError(f"{path} cannot be read: {e}.") from e
    except OSError as e:
        raise EncoderError(f"{path} cannot be read: {e.strerror}.") from e
    if not isinstance(tree, dict):
        raise EncoderError(f"{path} cannot be read: it is not a JSON object.")
    return tree


def choose_output(
    outputs: Collection[graph.Value], model: Mapping[str, Any] | None
) -> tuple[graph.Value, Output | None]:
    """Choose the output of a network that is the embedding, and how its parts become one vector.

    The first that exists of: an output that is named after embeddings (``image_embeds``, …, ``pooler_output``), or
    ``last_hidden_state``; otherwise the only output. Of maps, the mean is taken; of tokens, the first, which is the class token.
    For ViT, DeiT, DINOv2 and DINOv3 the class token comes before the pooler.

    Args:
        outputs: of the network.
        model: the content of ``config.json``, if there is one.

    Raises:
        UsageError: none of the outputs is known.
    """
    known = {value.name: value for value in outputs}
    kind = str((model or {}).get("model_type", ""))
    tokens_first = kind in _CLASS_TOKEN or kind.startswith("dinov2_")
    order = (_TOKENS, *_EMBEDDINGS) if tokens_first else (*_EMBEDDINGS, _TOKENS)
    chosen = next((known[name] for name in order if name in known), None)
    if chosen is None and len(known) == 1 and not set(known) & set(_SCORES):
        (chosen,) = known.values()
    if chosen is None:
        listed = one_line(", ".join(known))
        raise UsageError(
            f"None of the network's outputs is known as an embedding: {listed}. Name one as “output” in a {SETTINGS}; the scores"
            " of a classifier are not an embedding."
        )
    sides = len(chosen.shape or ())
    pool: TokenPool | None = {_VECTORS: "first", _MAPS: "mean"}.get(sides)  # type: ignore[assignment]  # mypy widens the values
    name = chosen.name if len(known) > 1 else None
    return chosen, Output(name=name, pool=pool) if name or pool else None


def dimension_of(output: graph.Value, pool: TokenPool | None, model: Mapping[str, Any] | None) -> int | None:
    """Return how many numbers an image an output has, by its shape or by ``config.json``; none if neither says."""
    shape = output.shape or ()
    side = shape[1] if len(shape) in {2, _MAPS} else shape[-1] if pool and len(shape) == _VECTORS else 0
    tree = model or {}
    vision = tree.get("vision_config")
    places = [(tree, "projection_dim"), (tree, "embed_dim")] if output.name in _EMBEDDINGS[:-1] else []
    places += [(vision if isinstance(vision, dict) else tree, "hidden_size"), (tree, "hidden_size")]
    stated = (place.get(key) for place, key in places)
    found = side or next((n for n in stated if isinstance(n, int) and not isinstance(n, bool)), None)
    return found if found and 0 < found <= MAX_DIMENSION else None
