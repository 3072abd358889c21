"""Recipes: YAML read into frozen models that refuse unknown keys. Importing this leaves torch out."""

from lookalike.datasets import FolderSource, Source, ToyShopSource
from lookalike.learn.losses import (
    BinaryCrossEntropyTerm,
    Comparison,
    ContrastiveTerm,
    CrossEntropyTerm,
    LossTerm,
    MultiSimilarityTerm,
    ProxyAnchorTerm,
    SelfDistillationTerm,
    SupervisedContrastiveTerm,
    TripletTerm,
)
from lookalike.learn.recipe.augment import Augment
from lookalike.learn.recipe.data import Data
from lookalike.learn.recipe.head import ClosedForm, PrototypesHead, WhiteningHead
from lookalike.learn.recipe.network import (
    IMAGENET,
    CNNetwork,
    ConvNeXtNetwork,
    EfficientNetLiteNetwork,
    FastNetwork,
    KochNetwork,
    Network,
    PublicNetwork,
    ResNetwork,
    VGGNetwork,
    imagenet_input,
)
from lookalike.learn.recipe.overrides import override
from lookalike.learn.recipe.reading import parse, read
from lookalike.learn.recipe.recipe import Recipe
from lookalike.learn.recipe.sampling import PairSampler, PKSampler, Sampler, TripletSampler
from lookalike.learn.recipe.stage import Stage
from lookalike.learn.recipe.training import (
    SGD,
    Adam,
    ConstantSchedule,
    CosineSchedule,
    EarlyStopping,
    OneCycle,
    Optimiser,
    Precision,
    Schedule,
    StepSchedule,
    Train,
)

__all__ = [
    "IMAGENET",
    "SGD",
    "Adam",
    "Augment",
    "BinaryCrossEntropyTerm",
    "CNNetwork",
    "ClosedForm",
    "Comparison",
    "ConstantSchedule",
    "ContrastiveTerm",
    "ConvNeXtNetwork",
    "CosineSchedule",
    "CrossEntropyTerm",
    "Data",
    "EarlyStopping",
    "EfficientNetLiteNetwork",
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
    "Precision",
    "PrototypesHead",
    "ProxyAnchorTerm",
    "PublicNetwork",
    "Recipe",
    "ResNetwork",
    "Sampler",
    "Schedule",
    "SelfDistillationTerm",
    "Source",
    "Stage",
    "StepSchedule",
    "SupervisedContrastiveTerm",
    "ToyShopSource",
    "Train",
    "TripletSampler",
    "TripletTerm",
    "VGGNetwork",
    "WhiteningHead",
    "imagenet_input",
    "override",
    "parse",
    "read",
]
