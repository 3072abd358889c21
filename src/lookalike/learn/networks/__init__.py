"""Backbones, public weights for them, and the siamese network made of them."""

from lookalike.learn.networks.backbone import Backbone, backbone, check_weights
from lookalike.learn.networks.fast import FastNet
from lookalike.learn.networks.siamese import BranchNetwork, Siamese, branches_of

__all__ = ["Backbone", "BranchNetwork", "FastNet", "Siamese", "backbone", "branches_of", "check_weights"]
