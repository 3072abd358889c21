"""Encoders: artefacts that turn pictures into embeddings, found by name, by path or on a hub."""

from lookalike.encoders.artefact import Encoder
from lookalike.encoders.card import Card
from lookalike.encoders.shelf import DEFAULT, bundled, load

__all__ = ["DEFAULT", "Card", "Encoder", "bundled", "load"]
