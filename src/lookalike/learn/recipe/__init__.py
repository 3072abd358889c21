"""A training run written down: YAML read into frozen models that refuse what they do not know."""

from lookalike.datasets import FolderSource, Source, ToyShopSource
from lookalike.learn.recipe.data import Data
from lookalike.learn.recipe.loss import (
    BinaryCrossEntropyTerm,
    Comparison,
    ContrastiveTerm,
    CrossEntropyTerm,
    LossTerm,
    MultiSimilarityTerm,
    ProxyAnchorTerm,
    SupervisedContrastiveTerm,
    TripletTerm,
)
from lookalike.learn.recipe.network import CNNetwork, FastNetwork, KochNetwork, Network, ResNetwork, VGGNetwork
from lookalike.learn.recipe.run import (
    SGD,
    Adam,
    ConstantSchedule,
    CosineSchedule,
    EarlyStopping,
    OneCycle,
    Optimiser,
    Schedule,
    StepSchedule,
    Train,
)
from lookalike.learn.recipe.sampling import Augment, PairSampler, PKSampler, Sampler, TripletSampler
from lookalike.learn.recipe.whole import Recipe, read

__all__ = [
    "SGD",
    "Adam",
    "Augment",
    "BinaryCrossEntropyTerm",
    "CNNetwork",
    "Comparison",
    "ConstantSchedule",
    "ContrastiveTerm",
    "CosineSchedule",
    "CrossEntropyTerm",
    "Data",
    "EarlyStopping",
    "FastNetwork",
    "FolderSource",
    "KochNetwork",
    "LossTerm",
    "MultiSimilarityTerm",
    "Network",
    "OneCycle",
    "Optimiser",
    "PKSampler",
    "PairSampler",
    "ProxyAnchorTerm",
    "Recipe",
    "ResNetwork",
    "Sampler",
    "Schedule",
    "Source",
    "StepSchedule",
    "SupervisedContrastiveTerm",
    "ToyShopSource",
    "Train",
    "TripletSampler",
    "TripletTerm",
    "VGGNetwork",
    "read",
]
