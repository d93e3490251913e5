"""A made-up landscape, written as the recording writes its own: a function of the values, and noise."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import optuna

from tuner.errors import SpaceError
from tuner.records import Values
from tuner.space.reader import SpaceFile, read_space
from tuner.training.configuration import read_configuration

SPACE = """
extends = "cnn"

[limits]
multiply_adds = 5_000_000

[search]
epochs = 9
train_images = 5000
"""


def made_up(folder: Path, *, drawn: int = 60, again: int = 5) -> tuple[Path, Path]:
    """Write a space and a table; ``again`` of its configurations are there from a second seed."""
    space, curves = folder / "space.toml", folder / "curves.csv"
    space.write_text(SPACE, "utf-8")
    file = read_space(str(space))
    random = np.random.default_rng(0)
    entries = [
        dict(file.space.sample(optuna.trial.FixedTrial({"ema": 0.0, **entry}))) for entry in file.space.start_with
    ]
    configurations = [*(("entry", entry) for entry in entries), *(("qmc", one) for one in _draws(file, drawn))]
    configurations += [(f"again-{k}", configurations[k][1]) for k in range(again)]
    names = list(file.space.parameters)
    with curves.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["part", "trial", *names, "parameters", "multiply_adds", "seconds", *(f"val_{k}" for k in range(1, 10))]
        )
        for number, (part, values) in enumerate(configurations):
            cost = read_configuration(values).plan((28, 28, 1), 10).cost
            curve = curve_of(values, random)
            seconds = 9 * cost.units * (5000 + 10_000 / 3) * 6e-11
            cells = [values.get(name, "") for name in names]
            writer.writerow([part, number, *cells, cost.parameters, cost.multiply_adds, f"{seconds:.1f}", *curve])
    return space, curves


def _draws(file: SpaceFile, count: int) -> list[Values]:
    draws, found = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)), list[Values]()
    while len(found) < count:
        values = file.space.sample(draws.ask())
        try:
            cost = read_configuration(values).plan((28, 28, 1), 10).cost
        except SpaceError:
            continue
        if not file.space.limits.broken_by(cost)[0]:
            # As the recording writes them.
            found.append({name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in values.items()})
    return found


def curve_of(values: Values, random: np.random.Generator) -> list[str]:
    """Good is a rate near 3e-3 with Adam, a norm and little dropout; annealed schedules rise late."""
    rate = math.log10(float(values["learning_rate"])) + (2.5 if values["optimizer"] != "sgd" else 1.5)
    if rate > 1.2 and values["optimizer"] == "rmsprop":
        return [f"{0.1:.4f}", *[""] * 8]
    final = 0.91 - 0.02 * rate**2 + 0.01 * (values["norm"] == "batch") - 0.03 * float(values["dropout_conv"])
    final -= 0.01 * (values["head"] == "average") + 0.002 * random.standard_normal()
    late = {"constant": 0.0, "step": 0.3}.get(str(values["schedule"]), 0.8) * (0.3 if values["ema"] else 1.0)
    curve = []
    for epoch in range(1, 10):
        here = final - 0.5 * math.exp(-epoch) - 0.05 * late * (1 - epoch / 9)
        here += 0.02 * late * random.standard_normal() * (1 - epoch / 9)
        curve.append(f"{min(max(here, 0.1), 0.99):.4f}")
    return curve
