"""Public weights: what others trained, read into a backbone."""

from torch import nn


def load(body: nn.Module, where: str) -> None:
    """Read public weights into a backbone."""
    raise NotImplementedError
