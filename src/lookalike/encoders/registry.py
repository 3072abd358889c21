"""Registry of encoders: bundled ones by name, others by path or by a hub address ``hf://``."""

import os
from pathlib import Path

from lookalike.encoders import hub
from lookalike.encoders.artefact import Encoder
from lookalike.errors import NotFoundError, UsageError
from lookalike.unicode_forms import find_existing

DEFAULT = "toyshop"
"""The encoder of a new collection if the user names none."""

EncoderSource = str | os.PathLike[str] | Encoder
"""An encoder: a name, a folder, ``hf://org/repo``, or an open encoder."""


def bundled() -> dict[str, Path]:
    """List the encoders that ship with lookalike: name → folder."""
    folder = Path(__file__).with_name("bundled")
    return {d.name: d for d in sorted(folder.iterdir()) if (d / "encoder.json").is_file()}


def is_shared(encoder: Encoder) -> bool:
    """Return whether an encoder is bundled or in the hub's cache, so that other programs need it unchanged."""
    folder = encoder.folder.resolve()
    return folder in {path.resolve() for path in bundled().values()} or hub.repository(folder) is not None


def load(source: EncoderSource) -> Encoder:
    """Find and open an encoder.

    Args:
        source: the name of a bundled encoder; the path of an artefact's folder; the path of a training run or a
            collection, which hold theirs in ``encoder/``; or ``hf://org/repo[@revision]``. ``~`` is expanded. An open
            encoder is returned unchanged.

    Raises:
        NotFoundError: the encoder does not exist.
        UsageError: the hub's address is invalid.
        MissingExtraError: the hub's client is not installed.
        EncoderError: its files are damaged.
    """
    if isinstance(source, Encoder):
        return source
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f"An encoder is given by its name or its folder, not by {type(source).__name__}.")
    name = os.fspath(source)
    if name.startswith(hub.SCHEME):
        return Encoder.open(
            hub.fetch(name, ["encoder.json", "*.onnx", "tokenizer.json", "README.md"], "An encoder from a hub")
        )
    known = bundled()
    if name in known:
        return Encoder.open(known[name])
    folder = find_existing(Path(name).expanduser())
    if not os.path.isdir(folder):  # noqa: PTH112 -- false for a name that is too long, too
        raise NotFoundError(
            f"There is no encoder {name!r}. Bundled: {', '.join(known)}; or give a folder, or hf://org/repo."
        )
    inside = folder / "encoder"
    return Encoder.open(inside if (inside / "encoder.json").is_file() else folder)
