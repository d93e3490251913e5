"""A trial's network as the search left it, as a model that leaves."""

from __future__ import annotations

from pathlib import Path

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.records import Values
from tuner.runs import draft_of


def rebuild(values: Values, checkpoints: Path, source: Source, cut: Cut, to: Path) -> None:
    """Write the network in the newest whole checkpoint as a Keras file: uint8 pixels in, probabilities out.

    ``cut`` is what it was trained on: the scale of the pixels is from there. Raises ``training.checkpoint.Damaged``.
    """
    from tuner.models.cnn import build_network, whole_model
    from tuner.training.checkpoint import newest_weights
    from tuner.training.configuration import read_configuration

    images = read_images(source, cut)
    plan = read_configuration(values).plan(source.input_shape, images.classes)
    network = build_network(plan, scale=images.scale, seed=0)
    network.set_weights(newest_weights(checkpoints))
    with draft_of(to) as draft:
        whole_model(plan, network, scale=images.scale).save(draft)
