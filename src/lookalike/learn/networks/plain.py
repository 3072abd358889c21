"""Plain convolutional networks from the literature: convolutions, ReLU and pooling."""

import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from lookalike.shapes import Float


class SmallCNN(nn.Module):
    """Three 3×3 convolutions of 32, 64 and 128 filters, the first two pooled; the feature is the mean over the last maps.

    With a linear layer of 64 on top, it is the network that reference R2 trains on digits. Convolutions keep the size of
    the map, which R2 does not specify. ``channels`` is 1 or 3: with 1 the network sees the mean over the colours.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._grey = channels == 1
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.outputs = 128
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # these layers have a bias

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Compute pooled features of images of 4 pixels or more."""
        x = x.mean(dim=1, keepdim=True) if self._grey else x
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.conv3(x)).mean(dim=(2, 3))


class KochNet(nn.Module):
    """The convolutions of Koch et al. 2015, "Siamese neural networks for one-shot image recognition", fig. 4.

    64 filters of 10×10, 128 of 7×7, 128 of 4×4 and 256 of 4×4, pooled after each but the last; the flattened maps are
    the features. A linear layer of 4096 and a sigmoid on top are the paper's embedding. ``channels`` as in `SmallCNN`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._grey = channels == 1
        self.conv1 = nn.Conv2d(channels, 64, 10)
        self.conv2 = nn.Conv2d(64, 128, 7)
        self.conv3 = nn.Conv2d(128, 128, 4)
        self.conv4 = nn.Conv2d(128, 256, 4)
        # 105…112 pixels become 6×6 maps.
        self.outputs = 256 * 6 * 6
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            init_as_koch(conv, std=0.01)

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Compute flattened maps of images of 105 to 112 pixels."""
        x = x.mean(dim=1, keepdim=True) if self._grey else x
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return F.relu(self.conv4(x)).flatten(1)


def init_as_koch(layer: nn.Conv2d | nn.Linear, std: float) -> None:
    """Initialise a layer: weights from N(0, std²), biases from N(0.5, 0.01²) (Koch et al. 2015, section 3.2)."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.normal_(layer.bias, mean=0.5, std=0.01)
