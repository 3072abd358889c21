"""The siamese network: a photo branch and an optional sketch branch, each with a backbone and a head."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Self

import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from lookalike.errors import MismatchError, RecipeError
from lookalike.learn import recipe
from lookalike.learn.networks.backbone import Backbone, backbone
from lookalike.learn.networks.ink_crop import InkCrop
from lookalike.learn.networks.plain import init_as_koch
from lookalike.learn.networks.weights import differences
from lookalike.query import Branch
from lookalike.shapes import Float

_PREFIX = "branches."


class BranchNetwork(nn.Module):
    """One branch: a backbone, and a head that projects its features.

    With ``unit``, embeddings have length 1. With ``mirror``, an embedding outside training is the mean of the embeddings
    of an image and its mirror image (with ``unit``, scaled to length 1). ``crop`` is the first layer of a sketch branch, if it
    has one; its grey image becomes three channels.
    """

    def __init__(
        self, body: Backbone, head: nn.Sequential, *, unit: bool, mirror: bool, crop: InkCrop | None = None
    ) -> None:
        super().__init__()
        self.crop = crop or nn.Identity()
        self.body = body
        self.head = head
        self._unit = unit
        self._mirror = mirror

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        """Embed normalised images as float32."""
        x = self.crop(x).expand(-1, 3, -1, -1)
        out = self._embed(x)
        if not self._mirror or self.training:
            return out
        out = (out + self._embed(x.flip(3))) / 2
        return F.normalize(out) if self._unit else out

    def _embed(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x)).float()
        return F.normalize(out) if self._unit else out


class Siamese(nn.Module):
    """A network of branches that share layers: by default the late ones and the head (R4, after Bui et al. 2018).

    Attributes:
        shared: the modules that branches share: layers of the backbone, and ``head``.
        dimension: numbers of an embedding.
    """

    def __init__(
        self,
        config: recipe.Network,
        branches: Sequence[Branch],
        shared_from: str | None = None,
        *,
        features: bool = False,
    ) -> None:
        """Build the network with random weights, or with the public weights that the recipe names.

        Args:
            config: the network of a recipe.
            branches: ``photo``, ``sketch`` or both; they start with the same weights.
            shared_from: the first layer that branches share, ``head`` or ``none``; by default that of the backbone.
            features: embeddings are the backbone's features, for a head that is fitted later.
        """
        super().__init__()
        body = backbone(config)
        head = nn.Sequential() if features else _head(config, body.outputs)
        first = BranchNetwork(body, head, unit=config.unit and not features, mirror=config.mirror)
        self.dimension = body.outputs if features else config.dimension
        self.branches = nn.ModuleDict({branches[0]: first})
        self.shared = config.shared_layers(shared_from)
        self._frozen: list[nn.Module] = []
        for name in branches[1:]:
            other = deepcopy(first)
            for layer in self.shared:
                place = layer if layer == "head" else f"body.{layer}"
                other.set_submodule(place, first.get_submodule(place))
            self.branches[name] = other
        if config.crop_ink and "sketch" in self.branches:
            self.branch("sketch").crop = InkCrop(config.crop_ink)

    def branch(self, name: Branch) -> BranchNetwork:
        """Return one branch."""
        branch = self.branches[name]
        assert isinstance(branch, BranchNetwork)  # noqa: S101 -- it holds nothing else
        return branch

    def forward(self, x: Float[Tensor, "n 3 s s"], sketch: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Embed images, each through its branch.

        Args:
            x: normalised images.
            sketch: whether each image is a sketch, bool (n,); by default all are of the first branch. A network of one branch
                embeds all images by it.
        """
        if sketch is None or len(self.branches) == 1:
            embeddings: Tensor = next(iter(self.branches.values()))(x)
            return embeddings
        photos: Tensor = self.branches["photo"](x[~sketch])
        sketches: Tensor = self.branches["sketch"](x[sketch])
        out = photos.new_empty(len(x), photos.shape[1])
        out[~sketch], out[sketch] = photos, sketches
        return out

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but keep frozen modules in evaluation mode: their statistics must not change."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def load_weights(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Load the weights of another stage or run.

        A branch that the weights lack becomes a copy of the photo branch. Layers that only this network shares between
        branches get the photo branch's weights.

        Args:
            weights: the `state_dict` of a siamese network.
            source: the stage or run, for errors.

        Raises:
            MismatchError: names or shapes of weights do not fit the network.
        """
        given = branches_of(weights)
        for name in reversed(list(self.branches)):  # photo last
            start = f"{_PREFIX}{name if name in given else 'photo'}."
            own = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
            if wrong := differences(self.branches[name].state_dict(), own):
                raise MismatchError(f"The weights of {source} do not fit the network: {'; '.join(wrong)}.")
            self.branches[name].load_state_dict(own)

    def freeze_statistics(self) -> None:
        """Keep the statistics of batch normalisation, which training then uses as evaluation does."""
        self._frozen += [m for m in self.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]

    def freeze(self, prefixes: Sequence[str], branches: Sequence[Branch]) -> None:
        """Exclude parts of the network from training.

        A layer that branches share is frozen if either branch is.

        Args:
            prefixes: branches or modules: ``photo``, ``sketch.body.conv1``; without a branch, of all branches: ``head``.
            branches: the branches that have training images. Layers of only the other branches are frozen too.

        Raises:
            RecipeError: a prefix is not part of the network, or nothing is left to train.
        """
        modules = {n.removeprefix(_PREFIX): m for n, m in self.named_modules(remove_duplicate=False)}
        for prefix in prefixes:
            matching = [module for name, module in modules.items() if prefix in (name, name.partition(".")[2])]
            if not matching or not prefix:
                first = self.branch("photo" if "photo" in self.branches else "sketch")
                layers = [f"body.{name}" for name, _ in first.body.named_children()]
                choices = ", ".join((*self.branches, "head", "body", *layers))
                raise RecipeError(
                    f"frozen: “{prefix}” is not part of the network; use one of {choices}, or a part of it."
                )
            self._frozen += matching
        used = {id(p) for name in branches for p in self.branches[name].parameters()}
        for parameter in self.parameters():
            if id(parameter) not in used:  # several processes would wait for its gradient
                parameter.requires_grad = False
        for module in self._frozen:
            module.requires_grad_(requires_grad=False)
        if not any(p.requires_grad for p in self.parameters()):
            raise RecipeError(f"frozen: {', '.join(prefixes)} leaves nothing to train; freeze less.")


def branches_of(weights: Mapping[str, Tensor]) -> tuple[Branch, ...]:
    """Return the branches that a siamese network with these weights has."""
    names: tuple[Branch, ...] = ("photo", "sketch")
    return tuple(name for name in names if any(key.startswith(f"{_PREFIX}{name}.") for key in weights))


def _head(config: recipe.Network, features: int) -> nn.Sequential:
    projection = nn.Linear(features, config.dimension, bias=not config.neck)
    head = nn.Sequential(projection)
    if config.neck:
        # Features are all positive, so they point in similar directions; centred ones fill the sphere from the start
        # (as the BNNeck of Luo et al. 2019).
        head.append(nn.BatchNorm1d(config.dimension))
    if isinstance(config, recipe.KochNetwork):
        init_as_koch(projection, std=0.2)
        head.append(nn.Sigmoid())
    return head
