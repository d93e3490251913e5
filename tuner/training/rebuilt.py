"""A network that was trained, from its values and its checkpoint: to predict with, or to take away."""

from __future__ import annotations

from pathlib import Path

import keras

from tuner.data.sources import Source
from tuner.data.splits import Images
from tuner.errors import SpaceError
from tuner.models.cnn import build_network, whole_model
from tuner.records import Value, Values
from tuner.space.asked import Asked
from tuner.space.hypermodel_file import HypermodelFile
from tuner.training.checkpoint import newest_weights
from tuner.training.configuration import read_configuration


def rebuilt(
    values: Values, hypermodel: HypermodelFile | None, source: Source, images: Images, checkpoints: Path
) -> keras.Model:
    """Return the model in the newest whole checkpoint: uint8 pixels in, probabilities out.

    ``images`` are those that it was trained on: the scale of the pixels is from there. Raises
    ``training.checkpoint.Damaged`` when there is none, SpaceError when the hypermodel does not build it any more.
    """
    weights = newest_weights(checkpoints)
    if hypermodel is None:
        plan = read_configuration(values).plan(source.input_shape, images.classes)
        network = build_network(plan, scale=images.scale, seed=0)
        network.set_weights(weights)
        return whole_model(plan, network, scale=images.scale)
    from tuner.space.hypermodel import Loaded  # KerasTuner, for those who use it
    from tuner.training.guests import Guest

    loaded = Loaded(hypermodel)
    guest = Guest(loaded, values, _unknown, seed=0, input_shape=source.input_shape, classes=images.classes)
    guest.model.set_weights(weights)
    return guest.whole()


def load_whole(path: Path, hypermodel: HypermodelFile | None) -> keras.Model:
    """Return a whole model that we have written; with the layers of its hypermodel, which the user's file defines."""
    if hypermodel is None:
        return keras.saving.load_model(path, compile=False)
    from tuner.space.hypermodel import Loaded

    own = Loaded(hypermodel).objects
    # A Lambda layer holds code, which Keras loads from those only who are trusted: this is the user's own.
    return keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=False)


def _unknown(asked: Asked) -> Value:
    raise SpaceError(f"it asks for '{asked.name}' now, which the trial did not have")
