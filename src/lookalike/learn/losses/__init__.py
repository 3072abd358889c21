"""Losses: one file for each term, with its recipe part and its formula.

To add a loss, write its file (`triplet` is an example) and add its class to `LossTerm`. Importing the terms leaves torch
out, because reading a recipe must not wait for it: each method imports what it needs. `total` sums the terms for training.
"""

from typing import Annotated

from pydantic import Field

from lookalike.learn.losses.binary_cross_entropy import BinaryCrossEntropyTerm
from lookalike.learn.losses.contrastive import ContrastiveTerm
from lookalike.learn.losses.cross_entropy import CrossEntropyTerm
from lookalike.learn.losses.dsh import DSHTerm
from lookalike.learn.losses.dtsh import DTSHTerm
from lookalike.learn.losses.multi_similarity import MultiSimilarityTerm
from lookalike.learn.losses.proxy_anchor import ProxyAnchorTerm
from lookalike.learn.losses.relational_distillation import RelationalDistillationTerm
from lookalike.learn.losses.self_distillation import SelfDistillationTerm
from lookalike.learn.losses.soft_labels import SoftLabelsTerm
from lookalike.learn.losses.supervised_contrastive import SupervisedContrastiveTerm
from lookalike.learn.losses.term import Comparison, Term
from lookalike.learn.losses.triplet import TripletTerm

LossTerm = Annotated[
    TripletTerm
    | DSHTerm
    | DTSHTerm
    | ContrastiveTerm
    | BinaryCrossEntropyTerm
    | CrossEntropyTerm
    | SupervisedContrastiveTerm
    | MultiSimilarityTerm
    | ProxyAnchorTerm
    | SelfDistillationTerm
    | RelationalDistillationTerm
    | SoftLabelsTerm,
    Field(discriminator="kind"),
]

__all__ = [
    "BinaryCrossEntropyTerm",
    "Comparison",
    "ContrastiveTerm",
    "CrossEntropyTerm",
    "DSHTerm",
    "DTSHTerm",
    "LossTerm",
    "MultiSimilarityTerm",
    "ProxyAnchorTerm",
    "RelationalDistillationTerm",
    "SelfDistillationTerm",
    "SoftLabelsTerm",
    "SupervisedContrastiveTerm",
    "Term",
    "TripletTerm",
]
