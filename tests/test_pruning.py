"""The promise of the pruner, on real images: it stops much and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.records import TrialSummary, seed_for
from tuner.runs import Outputs
from tuner.search.storage import open_storage
from tuner.search.study import best_trial, load_study, summaries

from .conftest import Done

EPOCHS, TRAIN_IMAGES, TRIALS = 4, 2000, 15


def _retrained(trial: TrialSummary, source: Source) -> float:
    """The validation accuracy of the trial's last epoch, had it not been stopped."""
    from tuner.models.cnn import build_network
    from tuner.training.configuration import read_configuration
    from tuner.training.fit import fit
    from tuner.training.stock import make_road

    images = read_images(source, Cut(TRAIN_IMAGES))
    configuration = read_configuration(trial.values)
    seed = seed_for(0, "trial", trial.number)
    plan = configuration.plan(source.input_shape, images.classes)
    network = build_network(plan, scale=images.scale, l2=configuration.recipe.l2, seed=seed_for(seed, "weights"))
    curve = fit(
        make_road(network, images, configuration.recipe),
        images,
        configuration.recipe,
        epochs=EPOCHS,
        seed=seed,
        after_epoch=lambda _: True,
    )
    return curve[-1].val_accuracy or 0.0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_pruner_stops_a_third_and_three_that_it_stopped_do_not_beat_the_winner(
    tuner: Callable[..., Done], tmp_path: Path, fashion: Source
) -> None:
    # Without --deterministic each run is another search: what is stopped, and what wins, depends on who came first.
    searched = tuner("search", "tiny", "--trials", TRIALS, "--epochs", EPOCHS, "--set", f"search.train_images={TRAIN_IMAGES}",
                     "--seed", 0, "--deterministic", "--no-refit", "--json", timeout=1000)  # fmt: skip
    assert searched.code == 0, searched.err
    study, _ = load_study(open_storage(Outputs.of(str(tmp_path / "results"), None), create=False), "tiny-1")
    trials = summaries(study)
    winner = best_trial(trials)
    stopped = [trial for trial in trials if trial.state == "pruned"]

    assert len([trial for trial in trials if trial.state != "refused"]) == TRIALS
    assert len(stopped) >= TRIALS / 3
    assert searched.document["compute_saved_by_pruning"] > 0.2
    assert winner is not None
    # The three that were closest to going on: the hardest case, not the easiest.
    closest = sorted(stopped, key=lambda trial: trial.val_accuracy or 0.0)[-3:]
    assert all(_retrained(trial, fashion) <= (winner.val_accuracy or 0.0) for trial in closest)
