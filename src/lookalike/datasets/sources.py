"""Where labelled pictures come from: frozen models that refuse what they do not know."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Report = Callable[[str], None]
"""Hears a line for every picture that is left out."""


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FolderSource(_Source):
    """A folder per class. With ``sketches``, a second such folder whose files are sketches of the first one's.

    A sketch belongs to the photo whose stem its own stem equals, or begins with when a ``-`` follows (``cup-7.jpg`` is
    drawn by ``cup-7.png`` and ``cup-7-2.png``). Sketches of photos that are not there count for their class alone.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    sketches: Path | None = None


class ToyShopSource(_Source):
    """Items of the generated toy shop; ``sketches`` drawn variants of each."""

    kind: Literal["toyshop"]
    count: int = Field(gt=0)
    seed: int = Field(ge=0)
    sketches: int = Field(0, ge=0)


Source = Annotated[FolderSource | ToyShopSource, Field(discriminator="kind")]
