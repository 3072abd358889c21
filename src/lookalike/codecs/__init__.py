"""Codecs, which turn an encoder's embeddings into the vectors that a collection stores."""

from pathlib import Path

from lookalike.codecs.none import NoCodec
from lookalike.codecs.protocol import Codec
from lookalike.errors import MismatchError
from lookalike.metric import VectorSpace

__all__ = ["CODECS", "Codec", "NoCodec", "load"]

CODECS: dict[str, type[Codec]] = {NoCodec.name: NoCodec}
"""The codecs by name."""


def load(name: str, folder: Path, embeddings: VectorSpace) -> Codec:
    """Load a fitted codec.

    Args:
        name: the codec's name in a collection's manifest.
        folder: the folder that `Codec.save` wrote to.
        embeddings: the space of the embeddings that it encodes.

    Raises:
        MismatchError: this version does not know the codec, or it was fitted on other embeddings.
        StorageError: its files are missing or damaged.
    """
    if name not in CODECS:
        raise MismatchError(
            f"The codec “{name}” is unknown to this version; it knows {', '.join(CODECS)}. Update lookalike."
        )
    return CODECS[name].load(folder, embeddings)
