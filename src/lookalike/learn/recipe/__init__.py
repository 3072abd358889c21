"""A training run written down: YAML read into frozen models that refuse what they do not know."""

from lookalike.learn.recipe.data import Data, FolderSource, Source, ToyShopSource
from lookalike.learn.recipe.loss import CrossEntropyTerm, LossTerm, TripletTerm
from lookalike.learn.recipe.network import FastNetwork, Network, ResNetwork
from lookalike.learn.recipe.run import OneCycle, Optimiser, Schedule, StepSchedule, Train
from lookalike.learn.recipe.sampling import Augment, PKSampler
from lookalike.learn.recipe.whole import Recipe, read

__all__ = [
    "Augment",
    "CrossEntropyTerm",
    "Data",
    "FastNetwork",
    "FolderSource",
    "LossTerm",
    "Network",
    "OneCycle",
    "Optimiser",
    "PKSampler",
    "Recipe",
    "ResNetwork",
    "Schedule",
    "Source",
    "StepSchedule",
    "ToyShopSource",
    "Train",
    "TripletTerm",
    "read",
]
