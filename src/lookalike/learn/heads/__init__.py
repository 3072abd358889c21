"""Heads, the last layers of encoders: what they compute, their fitting to embeddings, and their place in an ONNX network."""

from lookalike.learn.heads.head import Classes, Features, Head

__all__ = ["Classes", "Features", "Head"]
