"""Registry of encoders: bundled and known ones by name, others by path or by a hub address ``hf://``."""

import os
from pathlib import Path

from lookalike.encoders import hub, public
from lookalike.encoders.artefact import Encoder
from lookalike.encoders.hub import Address
from lookalike.encoders.known import KNOWN
from lookalike.errors import NotFoundError, UsageError
from lookalike.unicode_forms import find_existing

DEFAULT = "general"
"""The encoder of a new collection if the user names none."""

EncoderSource = str | os.PathLike[str] | Encoder
"""An encoder: a name, a folder, ``hf://org/repo``, or an open encoder."""


def bundled() -> dict[str, Path]:
    """List the encoders that ship with lookalike: name → folder."""
    folder = Path(__file__).with_name("bundled")
    return {d.name: d for d in sorted(folder.iterdir()) if (d / "encoder.json").is_file()}


def is_shared(encoder: Encoder) -> bool:
    """Return whether an encoder is bundled or in a cache, so that other programs need it unchanged."""
    folder = encoder.folder.resolve()
    bundles = {path.resolve() for path in bundled().values()}
    return folder in bundles or hub.repository(folder) is not None or public.is_in_cache(folder)


def load(source: EncoderSource) -> Encoder:
    """Find and open an encoder. A public one is fetched at first, and opened from the cache later.

    Args:
        source: the name of a bundled or known encoder; the path of an artefact's folder, or of a public encoder's; the path
            of a training run, which holds its own in ``encoder/``; or ``hf://org/repo[@revision]``, which
            ``/folder/file.onnx`` can follow. ``~`` is expanded. An open encoder is returned unchanged.

    Raises:
        NotFoundError: the encoder does not exist, or cannot be fetched.
        UsageError: the hub's address is invalid, or the encoder has a licence to accept or needs an export: see
            `lookalike.fetch_encoder`.
        MissingExtraError: the hub's client is not installed.
        EncoderError: its files are damaged.
    """
    if isinstance(source, Encoder):
        return source
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f"An encoder is given by its name or its folder, not by {type(source).__name__}.")
    name = os.fspath(source)
    if name in (names := bundled()):
        return Encoder.open(names[name])
    if (_is_known(name) or name.startswith(hub.SCHEME)) and (folder := public.cached(name)):
        return public.open_artefact(folder, name)
    found = find(name)
    if isinstance(found, Path):
        return Encoder.open(found)
    if found.commit is None and (found.place / public.ARTEFACT).is_file():
        return public.open_artefact(found.place, name)
    public.check_licence(found, accepted=False)
    return Encoder.open(public.make(found))


def find(name: str) -> public.Found | Path:
    """Find an encoder that is not bundled: the folder of an artefact, or a public encoder, whose network may be on the hub.

    Raises:
        LookalikeError: as for `load`.
    """
    if _is_known(name):
        return public.find_known(KNOWN[name])
    if name.startswith(hub.SCHEME):
        return public.find_on_hub(Address.parse(name))
    folder = find_existing(Path(name).expanduser())
    if not os.path.isdir(folder):  # noqa: PTH112 -- false for a name that is too long, too
        raise NotFoundError(
            f"There is no encoder {name!r}. Bundled: {', '.join(bundled())}; or give a folder, or hf://org/repo.",
            "lookalike encoders lists public ones, too.",
        )
    for place in (folder / "encoder", folder):
        if (place / public.ARTEFACT).is_file():
            return place
    return public.find_in_folder(folder) or folder


def _is_known(name: str) -> bool:
    return name in KNOWN and not os.path.isdir(name)  # noqa: PTH112 -- a folder of this name is the user's own
