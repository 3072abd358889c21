"""Encoders, which turn images into embeddings; opened by name, by path or from the Hugging Face hub."""

from lookalike.encoders.artefact import Encoder
from lookalike.encoders.card import Card
from lookalike.encoders.known import KNOWN, Known
from lookalike.encoders.registry import DEFAULT, EncoderSource, bundled, find, is_shared, load

__all__ = [
    "DEFAULT",
    "KNOWN",
    "Card",
    "Encoder",
    "EncoderSource",
    "Known",
    "bundled",
    "find",
    "is_shared",
    "load",
]
