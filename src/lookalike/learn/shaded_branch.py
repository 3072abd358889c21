"""A second view of drawings for a sketch branch: the photo network, which sees a drawing shaded as a solid thing.

A network of sketches sees the lines of a drawing, and a network of photos sees the drawing as a shaded solid. The sum of both
vectors finds more than either. Nothing is trained.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper
from torch import nn

from lookalike import atomic
from lookalike.encoders import Card, Encoder
from lookalike.encoders.network import one_line
from lookalike.errors import EncoderError, MismatchError
from lookalike.learn.agreement import save_network
from lookalike.learn.heads.features import reduce_output
from lookalike.learn.heads.head import unit_vectors
from lookalike.learn.heads.onnx_graph import with_opset
from lookalike.learn.networks.ink_crop import InkCrop
from lookalike.learn.networks.ink_shade import InkShade
from lookalike.learn.onnx_export import to_onnx
from lookalike.shapes import Float32, UInt8

CENTRED = 1_000
"""Drawings that the centre is the mean of, at most."""

_BATCH = 16


@dataclass(frozen=True, eq=False)
class ShadedBranch:
    """The photo network of an encoder, for drawings that are cropped to their ink and shaded.

    Attributes:
        encoder: the network as an artefact of one branch, ``photo``, with the input of the photos' encoder.
        centre: the mean direction of training drawings, float32 (d,). It is left out of a drawing's vector: all drawings share it,
            and it would draw them to the same photos.
    """

    encoder: Encoder
    centre: Float32[np.ndarray, " d"]

    def join(
        self, lines: Float32[np.ndarray, "n d"], drawings: UInt8[np.ndarray, "n s s 3"]
    ) -> Float32[np.ndarray, "n d"]:
        """Return the vectors of drawings: the sum of their vectors by lines and of their centred vectors by shading, of length 1."""
        return unit_vectors(unit_vectors(lines) + unit_vectors(_directions(self.encoder, drawings) - self.centre))

    def join_network(self, lines: onnx.ModelProto) -> onnx.ModelProto:
        """Return a network that computes `join` from one that sees the lines of a drawing.

        Args:
            lines: of the encoder's input and dimension.
        """
        solid = onnx.load(self.encoder.folder / "photo.onnx")
        both = [compose.add_prefix(with_opset(m), prefix) for m, prefix in ((solid, "solid."), (lines, "lines."))]
        (given,), (made,) = lines.graph.input, lines.graph.output
        graph = helper.make_graph(
            [
                *(helper.make_node("Identity", [given.name], [m.graph.input[0].name]) for m in both),
                *(node for m in both for node in m.graph.node),
                _unit(both[0].graph.output[0].name, "joined.solid"),
                helper.make_node("Sub", ["joined.solid", "joined.centre"], ["joined.centred"]),
                _unit("joined.centred", "joined.solid_direction"),
                _unit(both[1].graph.output[0].name, "joined.lines_direction"),
                helper.make_node("Add", ["joined.solid_direction", "joined.lines_direction"], ["joined.sum"]),
                _unit("joined.sum", made.name),
            ],
            "sketch",
            [given],
            [made],
            [*(t for m in both for t in m.graph.initializer), numpy_helper.from_array(self.centre, "joined.centre")],
        )
        model = helper.make_model(graph, opset_imports=_opsets(both), ir_version=max(m.ir_version for m in both))
        onnx.checker.check_model(model)
        return model


@contextmanager
def make(photos: Encoder, size: int, drawings: UInt8[np.ndarray, "n s s 3"]) -> Iterator[ShadedBranch]:
    """Make the branch; its files exist until the end of the block.

    Args:
        photos: whose photo network it is.
        size: pixels per side of the shaded drawings.
        drawings: training drawings, fitted to the encoder's input, whose mean becomes the centre; about `CENTRED`.
    """
    with _opened(shade_before(_network(photos, size), photos.card, size), photos.card) as encoder:
        yield ShadedBranch(encoder, _directions(encoder, drawings).mean(axis=0))


def shade_before(network: onnx.ModelProto, card: Card, size: int) -> onnx.ModelProto:
    """Return a network that embeds drawings as a network of photos embeds solid things.

    Args:
        network: of images with ``size`` pixels per side.
        card: its encoder's, for the size of the drawings that the new network takes.
        size: pixels per side of the shaded drawings.
    """
    return _chain(to_onnx(nn.Sequential(InkCrop(size), InkShade(size)), card.input.size), network)


def check(photos: Encoder, size: int) -> None:
    """Check that the photo network takes shaded drawings of this many pixels per side.

    Raises:
        MismatchError: it does not.
    """
    card = photos.card
    own = card.model_copy(update={"input": card.input.model_copy(update={"size": size})})
    try:
        with _opened(_network(photos, size), own) as encoder:
            encoder.embed(np.zeros((1, size, size, 3), np.uint8))
    except (EncoderError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as e:
        raise MismatchError(
            f"shaded: the photo network of “{card.name}” takes no images of {size} pixels; set shaded: {card.input.size}. ({one_line(e)})"
        ) from e


@contextmanager
def _opened(network: onnx.ModelProto, card: Card) -> Iterator[Encoder]:
    """Open a network as an artefact whose one branch is ``photo``."""
    with tempfile.TemporaryDirectory() as folder:
        own = card.model_copy(update={"branches": ("photo",), "network_output": None})
        atomic.write_text(Path(folder) / "encoder.json", own.model_dump_json() + "\n")
        save_network(network, Path(folder) / "photo.onnx")
        yield Encoder.open(Path(folder))


def _directions(encoder: Encoder, drawings: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n d"]:
    parts = [encoder.embed(drawings[start : start + _BATCH]) for start in range(0, len(drawings), _BATCH)]
    return unit_vectors(np.concatenate(parts))


def _network(photos: Encoder, size: int) -> onnx.ModelProto:
    """Read the photo network, for images of another size."""
    model = reduce_output(onnx.load(photos.folder / "photo.onnx"), photos.card)
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = size
    del model.graph.value_info[:]  # shapes for the earlier size
    return model


def _chain(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network that applies two networks one after the other."""
    both = first, second = with_opset(first), with_opset(second)
    version, opsets = max(m.ir_version for m in both), _opsets(both)
    for model in both:
        model.ir_version = version
        del model.opset_import[:]
        model.opset_import.extend(opsets)
    return compose.merge_models(
        first,
        second,
        io_map=[(first.graph.output[0].name, second.graph.input[0].name)],
        prefix2="photo.",
    )


def _opsets(models: Sequence[onnx.ModelProto]) -> list[onnx.OperatorSetIdProto]:
    """Return the newest operator set of each domain that networks use."""
    versions: dict[str, int] = {}
    for opset in (o for m in models for o in m.opset_import):
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        versions[domain] = max(versions.get(domain, 0), opset.version)
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]


def _unit(name: str, to: str) -> onnx.NodeProto:
    return helper.make_node("LpNormalization", [name], [to], axis=1, p=2)
