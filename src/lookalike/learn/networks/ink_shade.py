"""The shading of a drawing as a solid thing, before a network that knows photos."""

import torch
from torch import Tensor, nn

from lookalike.shapes import Float

# A pixel is ink if it is darker than the paper by this share of the difference to the darkest pixel.
_INK = 0.25

# They were chosen on validation classes; docs/results.md has the figures of others.
BACKGROUND = (0.80, 0.88, 1.0)
"""Shares of the paper's red, green and blue that the background has: a pale blue."""
SOLID = (0.57, 0.74, 0.91)
"""Shares of the paper's red, green and blue by which the middle of a solid is darker than the background: a dark brown."""

_Colour = tuple[float, float, float]

# A solid is this much lighter where its border is near …
_RIM = 0.6

# … as seen in a window of this share of the image.
_WINDOW = 6


class InkShade(nn.Module):
    """Paints what a drawing encloses, so that it looks like a photo of a solid thing.

    Networks that learned from photos know things by their surfaces more than by their outlines (Geirhos et al. 2019). A pixel is
    enclosed if there is ink above, below, left and right of it, so a gap in an outline leaves out a strip, and not the whole. Paper and ink are the brightest
    and the darkest value of an image.
    """

    _window: Tensor

    def __init__(self, size: int, background: _Colour = BACKGROUND, solid: _Colour = SOLID) -> None:
        """Set the pixels per side of the images, and the colours."""
        super().__init__()
        self._colours = list(zip(background, solid, strict=True))
        # A product with this matrix is ten times as fast in ONNX Runtime as a pooling layer.
        self.register_buffer("_window", _mean_of_window(size, size // _WINDOW), persistent=False)

    def forward(self, grey: Float[Tensor, "n 1 s s"]) -> Float[Tensor, "n 3 s s"]:
        """Paint normalised grey images of drawings."""
        paper, darkest = grey.amax(dim=(2, 3), keepdim=True), grey.amin(dim=(2, 3), keepdim=True)
        contrast = paper - darkest
        ink = (paper - grey) / contrast.clamp(min=1e-6)
        solid = _enclosed((ink > _INK).float())
        solid = solid * (1 - _RIM + _RIM * (self._window @ solid @ self._window.T))
        channels = [(back - loss * solid).clamp(min=0) for back, loss in self._colours]
        return darkest + contrast * torch.cat(channels, dim=1) * (1 - ink)


def _enclosed(ink: Float[Tensor, "n 1 s s"]) -> Float[Tensor, "n 1 s s"]:
    """Mark the pixels that are ink, or have ink on all four sides."""
    out = torch.ones_like(ink)
    for axis in (2, 3):
        before = ink.cumsum(dim=axis)
        after = ink.sum(dim=axis, keepdim=True) - before + ink
        out = out * ((before > 0) & (after > 0)).float()
    return out


def _mean_of_window(size: int, window: int) -> Float[Tensor, "s s"]:
    """Return the matrix whose product is the mean of a window around each place of a row; outside is 0."""
    places = torch.arange(size)
    near = (places[:, None] - places[None]).abs() <= window // 2
    return near.float() / (2 * (window // 2) + 1)
