"""The siamese network: branches made of a backbone and a head."""

from copy import deepcopy

import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

from lookalike import query
from lookalike.learn import recipe
from lookalike.learn.networks.backbone import Backbone, backbone
from lookalike.learn.networks.plain import draw_as_koch


class Branch(nn.Module):
    """One way in: a backbone, and a head that projects its features.

    With ``unit`` embeddings have length 1. With ``mirror`` an embedding is, outside training, the mean of a picture's
    and its mirror image's (with ``unit`` its direction).
    """

    def __init__(self, body: Backbone, head: nn.Sequential, *, unit: bool, mirror: bool) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self._unit = unit
        self._mirror = mirror

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        """Normalised images → embeddings, float32."""
        out = self._embed(x)
        if not self._mirror or self.training:
            return out
        out = (out + self._embed(x.flip(3))) / 2
        return F.normalize(out) if self._unit else out

    def _embed(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x)).float()
        return F.normalize(out) if self._unit else out


class Siamese(nn.Module):
    """Branches whose early layers are their own and whose late layers and head are one (R4, after Bui et al. 2018)."""

    def __init__(self, config: recipe.Network, branches: tuple[query.Branch, ...]) -> None:
        super().__init__()
        first = backbone(config)
        head = _head(config, first.outputs)
        self.branches = nn.ModuleDict({branches[0]: Branch(first, head, unit=config.unit, mirror=config.mirror)})
        for name in branches[1:]:
            body = deepcopy(first)
            for late in body.late:
                body.set_submodule(late, first.get_submodule(late))
            self.branches[name] = Branch(body, head, unit=config.unit, mirror=config.mirror)

    def branch(self, name: query.Branch) -> Branch:
        """One of its branches."""
        found = self.branches[name]
        assert isinstance(found, Branch)  # noqa: S101 -- nothing else is put there
        return found

    def forward(self, x: Float[Tensor, "n 3 s s"], sketch: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Embed images, each through the branch that ``sketch`` (bool, (n,)) says; all are photos without it."""
        if sketch is None or "sketch" not in self.branches:
            whole: Tensor = self.branches["photo"](x)
            return whole
        photos: Tensor = self.branches["photo"](x[~sketch])
        drawn: Tensor = self.branches["sketch"](x[sketch])
        out = photos.new_empty(len(x), photos.shape[1])
        out[~sketch], out[sketch] = photos, drawn
        return out


def _head(config: recipe.Network, features: int) -> nn.Sequential:
    projection = nn.Linear(features, config.dimension, bias=not config.neck)
    head = nn.Sequential(projection)
    if config.neck:
        # Features are all positive, so they point much the same way; centred ones fill the sphere from the start
        # (as the BNNeck of Luo et al. 2019).
        head.append(nn.BatchNorm1d(config.dimension))
    if isinstance(config, recipe.KochNetwork):
        draw_as_koch(projection, std=0.2)
        head.append(nn.Sigmoid())
    return head
