"""Labelled images for training and evaluation: folders, CSV tables, NumPy arrays and the generated toy shop."""

from lookalike.datasets.checking import DatasetCheck, SplitCounts, check
from lookalike.datasets.dataset import Dataset, LabelledImages
from lookalike.datasets.loading import Batch, concatenate, decode, decode_batches, load, open_dataset
from lookalike.datasets.sources import (
    LAYOUTS,
    CsvSource,
    FolderSource,
    NpzSource,
    Source,
    Split,
    ToyShopSource,
    infer_source,
)
from lookalike.datasets.splitting import Holdout, SplitBy, hold_out, split_for_training
from lookalike.datasets.tables import table_of_folder

__all__ = [
    "LAYOUTS",
    "Batch",
    "CsvSource",
    "Dataset",
    "DatasetCheck",
    "FolderSource",
    "Holdout",
    "LabelledImages",
    "NpzSource",
    "Source",
    "Split",
    "SplitBy",
    "SplitCounts",
    "ToyShopSource",
    "check",
    "concatenate",
    "decode",
    "decode_batches",
    "hold_out",
    "infer_source",
    "load",
    "open_dataset",
    "split_for_training",
    "table_of_folder",
]
