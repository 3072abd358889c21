"""VGG-16, with torchvision's parameter names, so that public weights load."""

from torch import Tensor, nn

from lookalike.shapes import Float

# Widths of the 3×3 convolutions, block by block; a block ends with pooling (Simonyan and Zisserman 2015, table 1, D).
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """VGG-16's convolutions, without batch normalisation; the feature is the mean over the last maps.

    Its classifier takes 7×7×512 numbers of a 224×224 image; the mean is 512 numbers of an image of any size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        inputs = 3
        for block in _BLOCKS:
            for width in block:
                self.features.extend([nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()])
                inputs = width
            self.features.append(nn.MaxPool2d(2))
        self.outputs = inputs
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # these layers have a bias

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Compute pooled features of images of 32 pixels or more."""
        out: Tensor = self.features(x)
        return out.mean(dim=(2, 3))
