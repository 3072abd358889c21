"""The image network of OpenCLIP's models, with its parameter names, so that public weights load."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from lookalike.shapes import Float


@dataclass(frozen=True)
class Shape:
    """The shape of a vision transformer.

    Attributes:
        size: pixels a side.
        patch: pixels a side of a patch.
        width: numbers a token.
        layers: blocks.
        head: numbers a token and attention head.
        hidden: numbers a token in the middle of a block.
        outputs: numbers an image.
        quick: the activation is OpenAI's quick GELU, x · sigmoid(1.702 x).
    """

    size: int
    patch: int
    width: int
    layers: int
    head: int
    hidden: int
    outputs: int
    quick: bool


class _Attention(nn.Module):
    """Attention among the tokens of an image, with several heads (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self._heads = heads

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).reshape(n, tokens, 3, self._heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out_proj(out.transpose(1, 2).reshape(n, tokens, width))
        return mixed


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.ln_1 = nn.LayerNorm(width)
        self.attn = _Attention(width, width // shape.head)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, shape.hidden))
        self.mlp.add_module("gelu", _QuickGELU() if shape.quick else nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(shape.hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class ClipVisionTransformer(nn.Module):
    """CLIP's vision transformer (Radford et al. 2021, section 2.4): the class token, normalised and projected."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, patches = shape.width, (shape.size // shape.patch) ** 2
        self.conv1 = nn.Conv2d(3, width, shape.patch, shape.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(_Block(shape) for _ in range(shape.layers)))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, shape.outputs))
        self.outputs = shape.outputs

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Embed normalised images."""
        tokens = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        out = self.ln_pre(torch.cat([first, tokens], 1) + self.positional_embedding)
        embedded: Tensor = self.ln_post(self.transformer.resblocks(out)[:, 0]) @ self.proj  # type: ignore[operator]
        return embedded
