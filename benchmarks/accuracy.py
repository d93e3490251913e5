"""Whether speed costs accuracy: ours beside a plain Keras loop, over paired seeds.

    python benchmarks/accuracy.py [--seeds 20] [--images 20000] [--epochs 5] [--json FILE]

A pair shares initial weights, order of images, augmentation and schedule. Ours is the compiled road with our layers;
the reference steps with ``train_on_batch`` through Keras's own BatchNormalization and Dropout. The two of a pair train
side by side on one thread each, and are judged on all the training file's other images (40,000 by default): networks
that differ in rounding disagree on about 1 image in 20; on 10,000 that alone is a standard deviation of 0.2 points.
The differences of pairs still have one of 0.15, so that five pairs leave an interval of about ±0.19: hence twenty.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import scipy.stats

from tuner.search.executors.local import worker_environment

VALUES = {"blocks": 3, "filters_1": 24, "filters_2": 48, "filters_3": 64, "dense_units": 64, "dropout_conv": 0.05,
          "dropout_dense": 0.2, "optimizer": "adamw", "learning_rate": 4e-3, "weight_decay": 1e-2,
          "schedule": "onecycle", "batch_size": 64, "flip": True}  # fmt: skip


def train(road_name: str, seed: int, images_wanted: int, epochs: int) -> float:
    """Train in this process and return the accuracy on the images that it did not see."""
    import keras
    import numpy as np

    from tuner.data.sources import find
    from tuner.data.splits import read_images
    from tuner.models.cnn import build_network
    from tuner.models.layers import TrainingBatchNorm, TrainingDropout
    from tuner.search.worker import prepare_backend
    from tuner.training.configuration import read_configuration
    from tuner.training.fit import fit, loss_and_accuracy
    from tuner.training.plain import PlainRoad
    from tuner.training.stock import make_road

    def standard(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, TrainingBatchNorm):
            return keras.layers.BatchNormalization(momentum=layer.momentum)
        if isinstance(layer, TrainingDropout):
            return keras.layers.Dropout(layer.rate)
        return layer.__class__.from_config(layer.get_config())

    prepare_backend()
    split = read_images(find(None, print))
    pixels, labels = np.concatenate([split.train, split.val]), np.concatenate([split.train_labels, split.val_labels])
    order = np.random.default_rng(0).permutation(len(pixels))
    seen, unseen = order[:images_wanted], order[images_wanted:]
    images = dataclasses.replace(
        split, train=pixels[seen], train_labels=labels[seen], val=pixels[:0], val_labels=labels[:0]
    )
    configuration = read_configuration(VALUES)
    plan = configuration.plan((28, 28, 1), images.classes)
    network = build_network(plan, scale=images.scale, seed=seed)
    if road_name == "reference":
        weights = network.get_weights()
        layers = [standard(layer) for layer in network.layers[1:]]
        network = keras.Sequential([keras.Input(plan.input_shape), *layers])
        network.set_weights(weights)
    make = PlainRoad if road_name == "reference" else make_road
    road = make(network, images, configuration.recipe)
    fit(road, images, configuration.recipe, epochs=epochs, seed=seed, after_epoch=lambda _: True)
    return loss_and_accuracy(road.logits(pixels[unseen]), labels[unseen])[1]


def main() -> None:
    """Train the pairs and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(train(asked.one[0], *map(int, asked.one[1:])))
        return
    pairs = []
    for seed in range(asked.first, asked.first + asked.seeds):
        both = [
            subprocess.Popen([sys.executable, __file__, "--one", road, str(seed), str(asked.images), str(asked.epochs)],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=worker_environment())
            for road in ("ours", "reference")
        ]  # fmt: skip
        pairs.append(tuple(100 * float(process.communicate()[0].split()[-1]) for process in both))
        print(f"seed {seed}: ours {pairs[-1][0]:.2f} %, reference {pairs[-1][1]:.2f} %", flush=True)
    differences = [ours - reference for ours, reference in pairs]
    mean, sd = statistics.mean(differences), statistics.stdev(differences)
    half = scipy.stats.t.ppf(0.975, len(pairs) - 1) * sd / math.sqrt(len(pairs))
    print(f"difference {mean:+.3f} points, SD {sd:.3f}, 95 % interval {mean - half:+.3f} to {mean + half:+.3f}")
    if asked.json:
        found = {"images": asked.images, "epochs": asked.epochs, "pairs": pairs, "mean": mean, "sd": sd,
                 "interval_95": [mean - half, mean + half]}  # fmt: skip
        asked.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
