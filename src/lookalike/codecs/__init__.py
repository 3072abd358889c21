"""Codecs, which turn an encoder's embeddings into the small codes that a collection stores.

A codec goes through these files: `protocol` says what it does, `saved` reads and writes its files, `linear` multiplies
without rounding, `packing` packs bits. Each other file has one codec.
"""

from pathlib import Path

from lookalike.codecs.binary import Binary
from lookalike.codecs.chain import PARTS, Chain
from lookalike.codecs.learned import Learned
from lookalike.codecs.none import NoCodec
from lookalike.codecs.pca import Pca
from lookalike.codecs.product import Product
from lookalike.codecs.protocol import Codec, Codes
from lookalike.codecs.rabitq import RaBitQ
from lookalike.codecs.scalar import Scalar
from lookalike.codecs.umap import Umap
from lookalike.errors import MismatchError
from lookalike.metric import VectorSpace

__all__ = [
    "CODECS",
    "Binary",
    "Chain",
    "Codec",
    "Codes",
    "Learned",
    "NoCodec",
    "Pca",
    "Product",
    "RaBitQ",
    "Scalar",
    "Umap",
    "load",
]

CODECS: dict[str, type[Codec]] = {NoCodec.name: NoCodec, **PARTS, Chain.name: Chain}
"""The codecs by name."""


def load(name: str, folder: Path, embeddings: VectorSpace, encoder: str | None = None) -> Codec:
    """Load a fitted codec.

    Args:
        name: the codec's name in a collection's manifest.
        folder: the folder that `Codec.save` wrote to.
        embeddings: the space of the embeddings that it encodes.
        encoder: the fingerprint of their encoder, if it is known.

    Raises:
        MismatchError: this version does not know the codec, or it was fitted on other embeddings.
        StorageError: its files are missing or damaged.
    """
    if name not in CODECS:
        raise MismatchError(
            f"The codec “{name}” is unknown to this version; it knows {', '.join(CODECS)}. Update lookalike."
        )
    return CODECS[name].load(folder, embeddings, encoder)
