"""A trial's network as the search left it, as a model that leaves."""

from __future__ import annotations

from pathlib import Path

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.records import Values
from tuner.runs import draft_of
from tuner.space.hypermodel_file import HypermodelFile


def rebuild(  # noqa: PLR0913  # one verb with its whole sentence
    values: Values, hypermodel: HypermodelFile | None, checkpoints: Path, source: Source, cut: Cut, to: Path
) -> None:
    """Write the network in the newest whole checkpoint as a Keras file: uint8 pixels in, probabilities out.

    ``cut`` is what it was trained on: the scale of the pixels is from there. Raises ``training.checkpoint.Damaged``.
    """
    from tuner.training.rebuilt import rebuilt

    with draft_of(to) as draft:
        rebuilt(values, hypermodel, source, read_images(source, cut), checkpoints).save(draft)
