"""``classify``: what ``tuner predict`` does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.errors import DataError
from tuner.library.process import AnyPath

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tuner.export.predict import Predictions


def classify(
    model: AnyPath,
    images: AnyPath | Sequence[AnyPath] | npt.NDArray[np.uint8],
    *,
    top: int = 3,
    invert: bool | None = None,
    key: str | None = None,
) -> Predictions:
    """Tell what is on pictures of any size and colour, as ``tuner predict`` does: the ``top`` likeliest classes.

    ``model`` is a folder that ``Result.export`` wrote, or a model file in it; ``images`` are files, folders of them, or
    a uint8 array (n, height, width[, channels]). ``invert`` negates every image, or none; by default those that are
    dark on a bright background. ``key`` names the array of an .npz. Files that cannot be read are told in ``broken``.
    Raises ExportError when the model cannot be used, DataError when no image can be read.
    """
    import numpy as np

    from tuner.export.predict import predict

    paths = [images] if isinstance(images, str | os.PathLike) else images
    asked = paths if isinstance(paths, np.ndarray) else [Path(path) for path in paths]
    answer = predict(Path(model), asked, top=top, invert=invert, key=key)
    if answer.broken and not answer.found:
        raise DataError("; ".join(answer.broken))
    return answer
