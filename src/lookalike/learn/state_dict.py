"""State dicts: the trained weights of a file or a run, and the networks that they are the weights of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lookalike.encoders.hub import SCHEME
from lookalike.errors import MismatchError, UsageError, plain_reason
from lookalike.learn import recipe
from lookalike.learn.networks import BranchNetwork, Siamese, branches_of, weights
from lookalike.learn.networks.convnext import rename_timms
from lookalike.learn.recipe.network import Weights
from lookalike.learn.recipe.stage import Stage
from lookalike.learn.run_folder import RECIPE, STAGES, RunFolder, read_weights
from lookalike.query import Branch

# Names of a layer's two tensors.
_WEIGHT, _BIAS = ".weight", ".bias"

_NETWORK: TypeAdapter[recipe.Network] = TypeAdapter(recipe.Network)


@dataclass(frozen=True)
class StateDict:
    """Trained weights.

    Attributes:
        tensors: by name.
        source: where they come from, for messages.
        trained: the recipe of the run that they are from; None for other files.
        stage: the stage of the recipe that they result from.
    """

    tensors: Mapping[str, Tensor]
    source: str
    trained: recipe.Recipe | None = None
    stage: Stage | None = None


def read(where: str) -> StateDict:
    """Read a state dict; files are safetensors only, since a pickle can run any code.

    Args:
        where: a ``.safetensors`` file, ``hf://org/repo[@revision][/file]``, the folder of a run, or a checkpoint or a stage's
            weights in it.

    Raises:
        UsageError: it is a pickle, or another kind of file.
        NotFoundError: it does not exist.
        RecipeError: the file is not safetensors.
        MismatchError: the folder's checkpoint is damaged.
        MissingExtraError: the hub's client is not installed.
    """
    path = Path(where).expanduser()
    if not where.startswith(SCHEME) and path.is_dir():
        trained = RunFolder(path).read_recipe()
        return StateDict(read_weights(path), where, trained, trained.stages[-1])
    try:
        TypeAdapter(Weights).validate_python(where)
    except ValidationError as e:
        raise UsageError(f"{plain_reason(e.errors()[0]['msg'])}.") from e
    if where.startswith(SCHEME) or not _is_checkpoint(path):
        return StateDict(weights.read_file(where), where)
    folder = RunFolder(path.parent.parent if path.parent.name == STAGES else path.parent)
    if not folder.has_recipe():
        raise UsageError(
            f"{where} is a checkpoint of lookalike without its {RECIPE}. Give the folder of the run, or a file in it."
        )
    trained = folder.read_recipe()
    stage = next((s for s in trained.stages if s.name == path.stem), trained.stages[-1])
    return StateDict(read_weights(path), where, trained, stage)


def _is_checkpoint(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "tree" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False  # `weights.read_file` explains


def find_settings(state: StateDict) -> dict[str, Any]:
    """Find the settings of the network of a state dict: those of its run, or the public network whose weights fit.

    Raises:
        MismatchError: no public network has these weights.
    """
    if state.trained:
        # Of a network that began with public weights, the run has its own.
        return {k: v for k, v in state.trained.network.model_dump(mode="json").items() if k != "weights"}
    tensors = rename_timms(state.tensors)
    for prefix in ("branches.photo.body.", "body."):
        tensors = _take(tensors, prefix) or tensors
    settings = weights.find_settings(tensors)
    if settings is None:
        raise MismatchError(
            f"The network of {state.source} is unknown. {weights.advise(tensors)} Or give --network NAME."
        )
    return dict(settings)


def build(state: StateDict, settings: Mapping[str, Any]) -> dict[Branch, BranchNetwork]:
    """Build the branches whose weights a state dict has.

    The names are those of a siamese network of lookalike (``branches.photo.body.…``), of one branch (``body.…``, ``head.…``), or
    of a backbone (torchvision's or timm's). Of a backbone, the embedding is its pooled features; if ``dimension`` is
    given, its last layer of this dimension projects them: ``fc`` with 128 outputs, say.

    Args:
        state: the weights.
        settings: of the network, as in a recipe: ``backbone``, and perhaps others.

    Raises:
        UsageError: a setting is unknown or invalid.
        MismatchError: the weights are those of another network.
    """
    if state.trained and state.trained.head:
        raise UsageError(
            f"The head of {state.source} was fitted after the training, so its weights are not the whole encoder. Use its folder"
            " encoder/."
        )
    if "weights" in settings:
        raise UsageError("network.weights cannot be given: the state dict has the weights.")
    config = _parse(settings)
    if names := branches_of(state.tensors):
        parts = {name: _take(state.tensors, f"branches.{name}.") for name in names}
        return {name: _whole(part, state.source, config, settings) for name, part in parts.items()}
    if any(name.startswith("body.") for name in state.tensors):
        return {"photo": _whole(state.tensors, state.source, config, settings)}
    return {"photo": _backbone(rename_timms(state.tensors), state.source, config, settings.get("dimension"))}


def _parse(settings: Mapping[str, Any]) -> recipe.Network:
    try:
        return _NETWORK.validate_python(settings)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(["network", *(str(part) for part in first["loc"][1:])])
        raise UsageError(f"{key}: {plain_reason(first['msg'])}.") from e


def _whole(
    tensors: Mapping[str, Tensor], source: str, config: recipe.Network, settings: Mapping[str, Any]
) -> BranchNetwork:
    """Build a branch whose head is in the state dict, which says its dimension and whether it has a neck."""
    projection = tensors.get(f"head.0{_WEIGHT}")
    if projection is None or projection.ndim != 2:  # noqa: PLR2004 -- outputs and inputs
        raise MismatchError(f"{source} has no head: it lacks head.0{_WEIGHT}. Give the weights of a whole branch.")
    found = {"dimension": len(projection), "neck": f"head.0{_BIAS}" not in tensors}
    for key, value in found.items():
        if settings.get(key, value) != value:
            raise UsageError(f"network.{key} is {value} in {source}, not {settings[key]}. Leave it out.")
    branch = Siamese(config.model_copy(update=found), ("photo",)).branch("photo")
    _load(branch, tensors, source, "Give another --network or -o, or other weights.")
    return branch


def _backbone(
    tensors: Mapping[str, Tensor], source: str, config: recipe.Network, dimension: int | None
) -> BranchNetwork:
    body = Siamese(config, ("photo",)).branch("photo").body
    own = weights.select(tensors, body.state_dict(), config)
    _load(body, own, source, _advise(tensors))
    head = nn.Sequential()
    if dimension is not None:
        name = _find_projection({n: t for n, t in tensors.items() if n not in own}, (dimension, body.outputs), source)
        bias = tensors.get(name + _BIAS)
        layer = nn.Linear(body.outputs, dimension, bias=bias is not None)
        layer.load_state_dict({"weight": tensors[name + _WEIGHT]} | ({} if bias is None else {"bias": bias}))
        head.append(layer)
    return BranchNetwork(body, head, unit=config.unit, mirror=config.mirror)


def _find_projection(rest: Mapping[str, Tensor], shape: tuple[int, int], source: str) -> str:
    """Return the name of the only linear layer of a shape."""
    layers = {n.removesuffix(_WEIGHT): tuple(t.shape) for n, t in rest.items() if n.endswith(_WEIGHT)}
    found = [name for name, sides in layers.items() if sides == shape]
    if len(found) != 1:
        has = ", ".join(f"{name} with {sides[0]} outputs" for name, sides in layers.items()) or "none"
        raise MismatchError(
            f"{source} has {len(found) or 'no'} layers after the features that make {shape[0]} numbers of {shape[1]}; it has {has}."
            " Leave network.dimension out to export the features themselves."
        )
    return found[0]


def _advise(tensors: Mapping[str, Tensor]) -> str:
    """Name the options of the network that weights fit."""
    found = weights.find_settings(tensors)
    if found is None:
        return "Give another --network, or other weights."
    options = [f"--network {found['backbone']}", *(f"-o network.{k}={v}" for k, v in found.items() if k != "backbone")]
    return f"It fits {' '.join(options)}."


def _load(module: nn.Module, tensors: Mapping[str, Tensor], source: str, advice: str) -> None:
    expected = module.state_dict()
    if problems := weights.differences(expected, tensors):
        raise MismatchError(f"{source} does not fit the network: {'; '.join(problems)}. {advice}")
    # Files often leave out batch counts, which only training uses.
    module.load_state_dict(expected | dict(tensors))


def _take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
