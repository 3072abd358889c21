"""Losses: the terms that a recipe can add up, and their weighted sum."""

from lookalike.learn.losses.classes import CosineClassifier, ProxyAnchor
from lookalike.learn.losses.pairs import BinaryCrossEntropy, Contrastive
from lookalike.learn.losses.similarity import MultiSimilarity, SupervisedContrastive
from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.total import Loss
from lookalike.learn.losses.triplet import Triplet

__all__ = [
    "BinaryCrossEntropy",
    "Contrastive",
    "CosineClassifier",
    "Loss",
    "MultiSimilarity",
    "ProxyAnchor",
    "SupervisedContrastive",
    "Targets",
    "Triplet",
]
