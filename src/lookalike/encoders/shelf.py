"""Where encoders are found: bundled by name, in a folder by path, on a hub by ``hf://``."""

from importlib import resources
from pathlib import Path

from lookalike.encoders import hub
from lookalike.encoders.artefact import Encoder
from lookalike.errors import NotFoundError

# What `lookalike index` takes where nothing is said.
DEFAULT = "toyshop"


def bundled() -> dict[str, Path]:
    """Name → folder of the encoders that ship with lookalike."""
    shelf = Path(str(resources.files("lookalike.encoders") / "bundled"))
    return {d.name: d for d in sorted(shelf.iterdir()) if (d / "encoder.json").is_file()}


def load(name: str | Path) -> Encoder:
    """Find and open an encoder.

    Args:
        name: of a bundled encoder; or the path of an artefact's folder, or of a training run's or a collection's, which hold
            theirs in ``encoder/``; or ``hf://org/repo[@revision]``.

    Raises:
        NotFoundError: no such encoder.
        UsageError: an address on the hub that is none.
        MissingExtraError: the hub's client is not installed.
        EncoderError: its files are damaged.
    """
    if isinstance(name, str) and name.startswith(hub.SCHEME):
        return Encoder.open(hub.fetch(name, ["encoder.json", "*.onnx", "README.md"], "An encoder from a hub"))
    shelf = bundled()
    if str(name) in shelf:
        return Encoder.open(shelf[str(name)])
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise NotFoundError(
            f"There is no encoder “{name}”. Bundled: {', '.join(shelf)}; or give a folder, or hf://org/repo."
        )
    inside = folder / "encoder"
    return Encoder.open(inside if (inside / "encoder.json").is_file() else folder)
