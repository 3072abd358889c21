"""Encoders: artefacts that turn images into embeddings, found by name, by path or on a hub."""

from lookalike.encoders.artefact import Encoder
from lookalike.encoders.card import Card
from lookalike.encoders.registry import DEFAULT, EncoderSource, bundled, is_shared, load

__all__ = ["DEFAULT", "Card", "Encoder", "EncoderSource", "bundled", "is_shared", "load"]
