"""Public weights of backbones: ImageNet weights of a package, or safetensors files, which hold data and no code."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lookalike.encoders import hub
from lookalike.encoders.network import one_line
from lookalike.errors import MismatchError, NotFoundError, RecipeError, reason_of
from lookalike.learn import recipe
from lookalike.learn.networks import convnext, efficientnet_lite, imagenet, resnet
from lookalike.learn.networks.convnext import ConvNeXt
from lookalike.learn.networks.efficientnet_lite import EfficientNetLite
from lookalike.learn.networks.resnet import ResNet
from lookalike.learn.networks.vgg import VGG16

# The default file of a repository.
_FILE = "model.safetensors"

# The names of the layers after the features, in torchvision, timm and the packages of EfficientNet-Lite.
_CLASSIFIERS = ("fc.", "_fc.", "classifier.", "head.", "pre_logits.")

# Differences that a message lists; a wrong network has hundreds.
_SHOWN = 3

# Settings of a recipe's network, and their backbone.
_KNOWN: tuple[tuple[dict[str, str], Callable[[], nn.Module]], ...] = (
    *(({"backbone": kind, "stem": "imagenet"}, partial(ResNet, kind, small=False)) for kind in resnet.KINDS),
    *(({"backbone": kind, "stem": "small"}, partial(ResNet, kind, small=True)) for kind in resnet.KINDS),
    ({"backbone": "vgg16"}, VGG16),
    *(({"backbone": kind}, partial(ConvNeXt, kind)) for kind in convnext.KINDS),
    *(({"backbone": kind}, partial(EfficientNetLite, kind)) for kind in efficientnet_lite.KINDS),
)


def origin(config: recipe.Network) -> str | None:
    """Describe the public weights that a network starts from, in one line without the folders of this machine."""
    if not isinstance(config, recipe.PublicNetwork) or (where := config.weights) is None:
        return None
    if where == recipe.IMAGENET:
        return imagenet.describe(config.backbone)
    if where.startswith(hub.SCHEME):
        return one_line(f"{where}, with the licence of that repository")
    return one_line(f"the file {Path(where).name}")


def load(body: nn.Module, config: recipe.PublicNetwork) -> None:
    """Load the public weights that a recipe names into a backbone; those of a classifier are left out.

    Raises:
        LookalikeError: as for `read`.
    """
    # The batch count matters only for batch normalisation without momentum; files often leave it out.
    counts = {name: tensor for name, tensor in body.state_dict().items() if _is_count(name)}
    body.load_state_dict(counts | read(body, config))


def classifier(config: recipe.PublicNetwork) -> tuple[np.ndarray, np.ndarray]:
    """Read the weight and the bias of the classifier that was trained with a network's ImageNet weights.

    Raises:
        LookalikeError: as for `read`.
    """
    found = imagenet.read(config.backbone)
    return found["_fc.weight"].numpy(), found["_fc.bias"].numpy()


def read(body: nn.Module, config: recipe.PublicNetwork) -> dict[str, Tensor]:
    """Read the public weights that a recipe names, without those of a classifier.

    Args:
        body: the backbone that they are for.
        config: names ``imagenet``, a ``.safetensors`` file, or ``hf://org/repo[@revision][/file]``.

    Raises:
        NotFoundError: the file or repository does not exist.
        MissingExtraError: the hub's client or the package of the ImageNet weights is not installed.
        RecipeError: the file is not safetensors.
        MismatchError: names or shapes do not fit the backbone, or the package has another file.
        StorageError: the package's file cannot be read.
    """
    where = config.weights or ""
    found = imagenet.read(config.backbone) if where == recipe.IMAGENET else convnext.rename_timms(read_file(where))
    current = body.state_dict()
    weights = select(found, current, config)
    if problems := differences(current, weights):
        raise MismatchError(f"{where} does not fit the network: {'; '.join(problems)}. {advise(found)}")
    return weights


def _locate(where: str) -> Path:
    if not where.startswith(hub.SCHEME):
        return Path(where).expanduser()
    org, _, rest = where.removeprefix(hub.SCHEME).partition("/")
    repo, _, file = rest.partition("/")
    file = file or _FILE
    if Path(file).suffix != ".safetensors":
        raise RecipeError(
            f"{where} should name a .safetensors file of the repository, or leave the file out to use {_FILE}."
        )
    path = hub.fetch(f"{hub.SCHEME}{org}/{repo}", [file], "Weights from a hub") / file
    if not path.is_file():
        raise NotFoundError(f"{hub.SCHEME}{org}/{repo} has no file {file}; name one: {hub.SCHEME}{org}/{repo}/FILE.")
    return path


def read_file(where: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name.

    Args:
        where: a path, or ``hf://org/repo[@revision][/file]``.

    Raises:
        NotFoundError, MissingExtraError, RecipeError: as for `read`.
    """
    try:
        return load_file(_locate(where))
    except OSError as e:
        raise NotFoundError(f"The weights {where} cannot be read: {reason_of(e)}.") from e
    except SafetensorError as e:
        raise RecipeError(f"The weights {where} are not a safetensors file, or are damaged: {e}.") from e


def select(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: recipe.Network | recipe.PublicNetwork
) -> dict[str, Tensor]:
    """Leave out the weights that a network does not have by its settings: those of a classifier, or of blocks that are cut."""
    if isinstance(config, recipe.EfficientNetLiteNetwork) and config.blocks:
        return {name: tensor for name, tensor in weights.items() if name in expected}
    return _without_classifier(weights, expected)


def _without_classifier(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the layers after the features, but not ConvNeXt's ``classifier.0``, which makes the features."""
    return {name: tensor for name, tensor in weights.items() if name in expected or not name.startswith(_CLASSIFIERS)}


def _is_count(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def differences(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Describe why weights do not fit a network; an empty list if they fit."""
    missing = [name for name in expected if name not in weights and not _is_count(name)]
    unexpected = [name for name in weights if name not in expected]
    misshapen = [
        f"{name} is {_shape(weights[name])}, not {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in weights and _shape(weights[name]) != _shape(tensor)
    ]
    problems = []
    if missing:
        problems.append(f"it lacks {_abbreviate(missing)}")
    if unexpected:
        problems.append(f"it has {_abbreviate(unexpected)}, which the network does not have")
    if misshapen:
        problems.append(_abbreviate(misshapen))
    return problems


def _shape(tensor: Tensor) -> str:
    """Write a shape: ``64×3×7×7``, or ``64×3×7×7 of whole numbers`` for tensors that cannot be weights."""
    sides = "×".join(map(str, tensor.shape)) or "one number"
    return sides if tensor.is_floating_point() else f"{sides} of whole numbers"


def _abbreviate(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def find_settings(weights: Mapping[str, Tensor]) -> dict[str, str] | None:
    """Find the settings of the network whose backbone weights fit, perhaps beside a classifier; None if none fits."""
    for number, (settings, _) in enumerate(_KNOWN):
        candidate = _expected(number)
        if not differences(candidate, _without_classifier(weights, candidate)):
            return settings
    return None


@cache  # making all of them takes a second, and a command may look for settings more than once
def _expected(number: int) -> dict[str, Tensor]:
    """Return the tensors of a known network. Only shapes are compared, so no memory is needed."""
    with torch.device("meta"):
        return _KNOWN[number][1]().state_dict()


def advise(weights: Mapping[str, Tensor]) -> str:
    """Name the settings that the weights fit, or say what is wrong with their names."""
    if settings := find_settings(weights):
        return f"It fits the recipe's network with {', '.join(f'{k}: {v}' for k, v in settings.items())}."
    prefix = next(iter(weights), "").partition(".")[0]
    if prefix in {"module", "model"} and all(name.startswith(f"{prefix}.") for name in weights):
        return f"Its names begin with “{prefix}.”: write the file again without this prefix."
    kinds = (*resnet.KINDS, "vgg16", *convnext.KINDS, *efficientnet_lite.KINDS)
    return f"It does not match any network here: name weights of {', '.join(kinds)}, as torchvision or timm name them."
