"""What an epoch costs: our ``fit`` beside ``model.fit`` and beside a bare compiled loop, which is the limit.

    python benchmarks/training.py [--rounds 3] [--images 12800] [--epochs 4] [--threads 1] [--json FILE]

Same network, weights, images, batch size and epochs. Each road trains in a process of its own, the roads of a round one
after the other and rounds in alternating order, so that a busy minute of the machine hits all of them. The first epoch
traces and is left out; a validation pass over 2,000 images belongs to every epoch. Ratios are medians over rounds.

* ``ours``: ``tuner.training.fit`` in a worker's environment;
* ``arrays``: ``model.fit(x, y)``;
* ``usual``: the same with the rectifier (and the norm) before the pool, as such networks are usually written: without a
  norm the same function, with one the same but for the images that the norm's statistics see;
* ``dataset``: ``model.fit(tf.data)`` as Keras's documentation writes it (shuffle, batch, prefetch);
* ``bare``: a compiled loop over float32 tensors that lie in memory, with our layers and Keras's optimizer, in a
  worker's environment: no augmentation, no checks, no questions.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NETWORKS: dict[str, dict[str, Any]] = {
    "seed-size": {"blocks": 3, "filters_1": 24, "filters_2": 48, "filters_3": 64, "dense_units": 64, "norm": "none"},
    "seed-size, batch norm": {"blocks": 3, "filters_1": 24, "filters_2": 48, "filters_3": 64, "dense_units": 64},
    "20 M multiply-adds": {"blocks": 3, "filters_1": 32, "filters_2": 64, "filters_3": 128, "convs_2": 2, "convs_3": 2,
                           "dense_units": 64},
}  # fmt: skip
ROADS = ("ours", "arrays", "usual", "dataset", "bare")
BATCH_SIZE = 64
VALIDATION_IMAGES = 2000
RECIPE = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2, "schedule": "constant", "warmup": 0.0,
          "batch_size": BATCH_SIZE}  # fmt: skip


def train(road: str, network_name: str, images_wanted: int, epochs: int, threads: int) -> dict[str, Any]:
    """Train in this process; return wall and CPU seconds of every epoch but the first, and the last accuracy."""
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    from tuner.data.sources import find
    from tuner.data.splits import Cut, read_images
    from tuner.models.cnn import build_network
    from tuner.training.configuration import read_configuration
    from tuner.training.fit import fit
    from tuner.training.optimizers import make_optimizer
    from tuner.training.stock import make_road

    configuration = read_configuration({**NETWORKS[network_name], **RECIPE})
    whole = read_images(find(None, print), Cut(images_wanted))
    val, val_labels = whole.val[:VALIDATION_IMAGES], whole.val_labels[:VALIDATION_IMAGES]
    images = dataclasses.replace(whole, val=val, val_labels=val_labels)
    plan = configuration.plan(images.train.shape[1:], images.classes)
    network = build_network(plan, scale=images.scale, seed=1)
    marks: list[tuple[float, float]] = []

    def mark() -> None:
        marks.append((time.monotonic(), time.process_time()))

    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    y, val_y = (np.eye(images.classes, dtype=np.float32)[labels] for labels in (images.train_labels, val_labels))
    x, val_x = images.train.astype(np.float32), val.astype(np.float32)
    if road == "ours":

        def after_epoch(_: object) -> bool:
            mark()
            return True

        road_ = make_road(network, images, configuration.recipe)
        fit(road_, images, configuration.recipe, epochs=epochs, seed=1, after_epoch=after_epoch)
    elif road == "bare":
        _bare_loop(network, make_optimizer(configuration.recipe), loss, (x, y, val_x, val_y), epochs, mark)
    else:
        layers = [_standard(layer) for layer in network.layers[1:]]
        network = keras.Sequential([keras.Input(plan.input_shape), *(_usual(layers) if road == "usual" else layers)])
        network.compile(optimizer=make_optimizer(configuration.recipe), loss=loss, metrics=["accuracy"])
        data: dict[str, Any] = {"x": x, "y": y, "batch_size": BATCH_SIZE, "validation_data": (val_x, val_y)}
        if road == "dataset":
            training = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH_SIZE)
            validation = tf.data.Dataset.from_tensor_slices((val_x, val_y)).batch(BATCH_SIZE)
            data = {"x": training.prefetch(tf.data.AUTOTUNE), "validation_data": validation.prefetch(tf.data.AUTOTUNE)}
        marking = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: mark())  # noqa: ARG005  # Keras's
        network.fit(**data, epochs=epochs, verbose=0, callbacks=[marking])
    walls, cpus = zip(*[(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)], strict=True)
    return {"wall": walls, "cpu": cpus, "multiply_adds": plan.cost.multiply_adds, "parameters": plan.cost.parameters}


def _standard(layer: Any) -> Any:  # noqa: ANN401  # Keras is untyped
    """Return Keras's own layer for ours: what a person would have written."""
    import keras

    if isinstance(layer, keras.layers.BatchNormalization):
        return keras.layers.BatchNormalization(momentum=layer.momentum, name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def _usual(layers: list[Any]) -> list[Any]:
    """Return the layers with each pool behind the norm and the rectifier that follow it."""
    import keras

    ordered: list[Any] = []
    pool = None
    for layer in layers:
        if isinstance(layer, keras.layers.MaxPooling2D):
            pool = layer
        else:
            ordered.append(layer)
            if pool is not None and isinstance(layer, keras.layers.ReLU):
                ordered.append(pool)
                pool = None
    return ordered


def _bare_loop(network: Any, optimizer: Any, loss_of: Any, data: Any, epochs: int, mark: Any) -> None:  # noqa: ANN401, PLR0913
    import tensorflow as tf

    x, y, val_x, val_y = (tf.constant(array) for array in data)
    optimizer.build(network.trainable_variables)

    @tf.function  # type: ignore[untyped-decorator]
    def epoch(order: Any) -> Any:  # noqa: ANN401
        total = 0.0
        for i in tf.range(tf.shape(order)[0]):
            with tf.GradientTape() as tape:
                loss = loss_of(tf.gather(y, order[i]), network(tf.gather(x, order[i]), training=True))
            weights = network.trainable_weights
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            total += loss
        return total

    @tf.function  # type: ignore[untyped-decorator]
    def validate() -> Any:  # noqa: ANN401
        logits = tf.concat([network(part, training=False) for part in tf.split(val_x, 4)], axis=0)
        return loss_of(val_y, logits)

    steps = len(data[0]) // BATCH_SIZE
    for _ in range(epochs):
        order = tf.reshape(tf.random.shuffle(tf.range(len(data[0])))[: steps * BATCH_SIZE], (steps, BATCH_SIZE))
        float(epoch(order)), float(validate())
        mark()


def matrix_peak(threads: int) -> float:
    """Return the GFLOP/s of a large float32 matrix product in TensorFlow on ``threads`` threads: the best of ten."""
    code = (
        "import tensorflow as tf, time\n"
        f"tf.config.threading.set_intra_op_parallelism_threads({threads})\n"
        "a = tf.random.normal((2048, 2048))\n"
        "multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))\n"
        "float(multiply())\n"
        "def seconds():\n"
        "    start = time.monotonic(); float(multiply()); return time.monotonic() - start\n"
        "print(2 * 2048**3 / min(seconds() for _ in range(10)) / 1e9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def in_a_process(road: str, network: str, images: int, epochs: int, threads: int) -> dict[str, Any]:
    """Train in a process of its own, with the environment that the road has in real life."""
    from tuner.search.executors.local import worker_environment

    environment = worker_environment() if road in ("ours", "bare") else {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    command = [sys.executable, __file__, "--one", road, network, str(images), str(epochs), str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the rounds and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--roads", nargs="*", default=list(ROADS), choices=ROADS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(train(asked.one[0], asked.one[1], *map(int, asked.one[2:]))))
        return
    results: dict[str, Any] = {"threads": asked.threads, "images": asked.images, "batch_size": BATCH_SIZE,
                               "matrix_gflops": matrix_peak(asked.threads), "networks": {}}  # fmt: skip
    print(f"matrix product on {asked.threads} thread(s): {results['matrix_gflops']:.0f} GFLOP/s")
    for network in asked.networks:
        seen: dict[str, list[dict[str, Any]]] = {road: [] for road in asked.roads}
        for number in range(asked.rounds):
            for road in asked.roads if number % 2 == 0 else reversed(asked.roads):
                seen[road].append(in_a_process(road, network, asked.images, asked.epochs, asked.threads))
        results["networks"][network] = _told(network, seen, asked.images)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


def _told(network: str, seen: dict[str, list[dict[str, Any]]], images: int) -> dict[str, Any]:
    """Print one network's table and return it."""
    first = next(iter(seen.values()))[0]
    operations = 6 * first["multiply_adds"] * images + 2 * first["multiply_adds"] * VALIDATION_IMAGES
    print(f"\n{network}: {first['parameters']:,} parameters, {first['multiply_adds'] / 1e6:.1f} M multiply-adds")
    table: dict[str, Any] = {"parameters": first["parameters"], "multiply_adds": first["multiply_adds"]}
    for road, runs in seen.items():
        walls, cpus = ([second for run in runs for second in run[key]] for key in ("wall", "cpu"))
        row = {"wall": statistics.median(walls), "wall_from": min(walls), "wall_to": max(walls),
               "cpu": statistics.median(cpus), "gflops": operations / statistics.median(walls) / 1e9}  # fmt: skip
        if "ours" in seen:
            for key in ("wall", "cpu"):
                pairs = zip(runs, seen["ours"], strict=True)
                ratios = [statistics.median(run[key]) / statistics.median(ours[key]) for run, ours in pairs]
                row[f"{key}_to_ours"] = statistics.median(ratios)
        table[road] = row
        ratios_told = (
            f"  x ours: {row['wall_to_ours']:.2f} wall, {row['cpu_to_ours']:.2f} CPU" if "ours" in seen else ""
        )
        print(
            f"  {road:8} epoch {row['wall']:6.2f} s ({row['wall_from']:.2f}-{row['wall_to']:.2f})  "
            f"CPU {row['cpu']:6.2f} s  "
            f"{row['gflops']:5.0f} GFLOP/s{ratios_told}",
            flush=True,
        )
    return table


if __name__ == "__main__":
    main()
