"""Labelled pictures, for training and for measuring."""

from lookalike.datasets.reading import By, Samples, divide, hold_out, load
from lookalike.datasets.sources import FolderSource, Report, Source, ToyShopSource

__all__ = ["By", "FolderSource", "Report", "Samples", "Source", "ToyShopSource", "divide", "hold_out", "load"]
