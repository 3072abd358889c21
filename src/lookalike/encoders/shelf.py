"""Where encoders are found: bundled by name, in a folder by path, on a hub by ``hf://``."""

from importlib import resources
from pathlib import Path

from lookalike.encoders.artefact import Encoder
from lookalike.errors import MissingExtraError, NotFoundError, UsageError

# What `lookalike index` takes where nothing is said.
DEFAULT = "toyshop"


def bundled() -> dict[str, Path]:
    """Name → folder of the encoders that ship with lookalike."""
    shelf = Path(str(resources.files("lookalike.encoders") / "bundled"))
    return {d.name: d for d in sorted(shelf.iterdir()) if (d / "encoder.json").is_file()}


def load(name: str | Path) -> Encoder:
    """Find and open an encoder.

    Args:
        name: of a bundled encoder; or the path of an artefact's folder; or ``hf://org/repo[@revision]``.

    Raises:
        NotFoundError: no such encoder.
        EncoderError: its files are damaged.
    """
    if isinstance(name, str) and name.startswith("hf://"):
        return Encoder.open(_from_hub(name))
    shelf = bundled()
    if str(name) in shelf:
        return Encoder.open(shelf[str(name)])
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise NotFoundError(
            f"There is no encoder “{name}”. Bundled: {', '.join(shelf)}; or give a folder, or hf://org/repo."
        )
    return Encoder.open(folder)


def _from_hub(address: str) -> Path:
    repo, _, revision = address.removeprefix("hf://").partition("@")
    if repo.count("/") != 1:
        raise UsageError(f"“{address}” should read hf://org/repo or hf://org/repo@revision.")
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 -- an extra
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("hub", "An encoder from a hub") from e
    try:
        folder = snapshot_download(
            repo, revision=revision or None, allow_patterns=["encoder.json", "*.onnx", "README.md"]
        )
    except (HfHubHTTPError, OSError, ValueError) as e:
        raise NotFoundError(f"{address} cannot be fetched: {e}") from e
    return Path(folder)
