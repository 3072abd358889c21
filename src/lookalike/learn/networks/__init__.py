"""Backbones, public weights for them, and the siamese network made of them."""

from lookalike.learn.networks.backbone import Backbone, backbone
from lookalike.learn.networks.fast import FastNet
from lookalike.learn.networks.siamese import Branch, Siamese

__all__ = ["Backbone", "Branch", "FastNet", "Siamese", "backbone"]
