"""Labelled pictures, for training and for measuring: in folders, in tables, in arrays, or generated."""

from lookalike.datasets.checking import Findings, Part, check
from lookalike.datasets.dataset import Dataset, Samples
from lookalike.datasets.dividing import By, divide, hold_out
from lookalike.datasets.reading import batches, find, join, load, read
from lookalike.datasets.sources import (
    LAYOUTS,
    CsvSource,
    FolderSource,
    NpzSource,
    Report,
    Source,
    Split,
    ToyShopSource,
    guess,
)

__all__ = [
    "LAYOUTS",
    "By",
    "CsvSource",
    "Dataset",
    "Findings",
    "FolderSource",
    "NpzSource",
    "Part",
    "Report",
    "Samples",
    "Source",
    "Split",
    "ToyShopSource",
    "batches",
    "check",
    "divide",
    "find",
    "guess",
    "hold_out",
    "join",
    "load",
    "read",
]
