"""Codecs that are trained with torch, on embeddings that stay as they are. They end as `lookalike.codecs.Learned`."""

from lookalike.learn.codecs.layer import CBS, CRS, DSH, DTSH, Layer
from lookalike.learn.codecs.parametric_umap import ParametricUMAP
from lookalike.learn.codecs.trainable import Trainable

__all__ = ["CBS", "CRS", "DSH", "DTSH", "TRAINABLE", "Layer", "ParametricUMAP", "Trainable"]

TRAINABLE: dict[str, type[Trainable]] = {codec.method: codec for codec in (CRS, CBS, DSH, DTSH, ParametricUMAP)}
"""The codecs by name."""
