"""Convert a torch network to ONNX."""

import logging
import warnings

import onnx
import torch
from torch import nn

from lookalike.errors import EncoderError


def to_onnx(branch: nn.Module, size: int) -> onnx.ModelProto:
    """Convert a network of images ``(n, 3, size, size)`` to ONNX, for any n.

    Raises:
        EncoderError: torch cannot convert it.
    """
    example = torch.zeros(2, 3, size, size)
    log = logging.getLogger("torch.onnx")
    level = log.level
    with warnings.catch_warnings():
        # The exporter warns and logs about its internals.
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        program = torch.onnx.export(
            branch,
            (example,),
            input_names=["pictures"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    log.setLevel(level)
    if program is None:
        raise EncoderError("torch could not export the network to ONNX. Try another network.")
    return _without_traces(program.model_proto)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's notes about its source: people share encoders, and the notes have paths of this machine."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *values):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return model
