"""Public weights: what others trained, read into a backbone. Safetensors only, which are data and nothing else."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lookalike.encoders import hub
from lookalike.errors import MismatchError, NotFoundError, RecipeError
from lookalike.learn.networks.resnet import KINDS, ResNet
from lookalike.learn.networks.vgg import VGG16

# Where a repository has no other name for them.
_FILE = "model.safetensors"

# What torchvision and timm call the layers behind the features.
_CLASSIFIERS = ("fc.", "classifier.", "head.", "pre_logits.")

# Differences that a message names; a wrong network has hundreds.
_SHOWN = 3

# What a recipe says → the backbone that it gives.
_KNOWN: dict[str, Callable[[], nn.Module]] = {
    **{f"backbone: {kind}, stem: imagenet": partial(ResNet, kind, small=False) for kind in KINDS},
    **{f"backbone: {kind}, stem: small": partial(ResNet, kind, small=True) for kind in KINDS},
    "backbone: vgg16": VGG16,
}


def load(body: nn.Module, where: str) -> None:
    """Read public weights into a backbone, all of them but the classifier's.

    Args:
        body: the backbone; its weights are replaced.
        where: a ``.safetensors`` file, or ``hf://org/repo[@revision][/file]``.

    Raises:
        NotFoundError: there is no such file or repository.
        MissingExtraError: the hub's client is not installed.
        RecipeError: it is no safetensors file.
        MismatchError: names or shapes are not the backbone's.
    """
    found = _read(_find(where), where)
    wanted = body.state_dict()
    wrong = _differences(wanted, found)
    if wrong:
        raise MismatchError(f"{where} does not fit the network: {'; '.join(wrong)}. {_advice(found)}")
    # The count of batches matters only where batch normalisation has no momentum; files often leave it out.
    body.load_state_dict({**{k: v for k, v in wanted.items() if _is_count(k)}, **found})


def _find(where: str) -> Path:
    if not where.startswith(hub.SCHEME):
        return Path(where).expanduser()
    org, _, rest = where.removeprefix(hub.SCHEME).partition("/")
    repo, _, file = rest.partition("/")
    file = file or _FILE
    if Path(file).suffix != ".safetensors":
        raise RecipeError(f"{where} should name a .safetensors file of the repository, or none for {_FILE}.")
    path = hub.fetch(f"{hub.SCHEME}{org}/{repo}", [file], "Weights from a hub") / file
    if not path.is_file():
        raise NotFoundError(f"{hub.SCHEME}{org}/{repo} has no file {file}; name one: {hub.SCHEME}{org}/{repo}/FILE.")
    return path


def _read(path: Path, where: str) -> dict[str, Tensor]:
    """The tensors of a file by name, without its classifier's."""
    try:
        tensors = load_file(path)
    except OSError as e:
        raise NotFoundError(f"The weights {where} cannot be read: {e.strerror or e}.") from e
    except SafetensorError as e:
        raise RecipeError(f"The weights {where} are no safetensors file, or damaged: {e}.") from e
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_CLASSIFIERS)}


def _is_count(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps weights from a network, in words; nothing where they fit."""
    missing = [name for name in wanted if name not in found and not _is_count(name)]
    strange = [name for name in found if name not in wanted]
    other = [
        f"{name} is {_shape(found[name])}, not {_shape(tensor)}"
        for name, tensor in wanted.items()
        if name in found and _shape(found[name]) != _shape(tensor)
    ]
    said = []
    if missing:
        said.append(f"it lacks {_few(missing)}")
    if strange:
        said.append(f"it has {_few(strange)}, which the network has not")
    if other:
        said.append(_few(other))
    return said


def _shape(tensor: Tensor) -> str:
    """``64×3×7×7``, and ``64×3×7×7 of whole numbers`` for what is not to be taken for weights."""
    sides = "×".join(map(str, tensor.shape)) or "one number"
    return sides if tensor.is_floating_point() else f"{sides} of whole numbers"


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _advice(found: Mapping[str, Tensor]) -> str:
    """What the file seems to be, and so what to do."""
    for says, make in _KNOWN.items():
        # Shapes alone are compared, so nothing is drawn or kept.
        with torch.device("meta"):
            candidate = make().state_dict()
        if not _differences(candidate, found):
            return f"It fits the recipe's network with {says}."
    prefix = next(iter(found), "").partition(".")[0]
    if prefix in {"module", "model"} and all(name.startswith(f"{prefix}.") for name in found):
        return f"Its names begin with “{prefix}.”: write the file again without that."
    return f"It is none of {', '.join(KINDS)} and vgg16 as torchvision and timm name their weights."
