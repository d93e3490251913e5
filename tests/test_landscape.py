"""The simulator of benchmarks/landscape: what a replayed search pays, sees, and is worth."""

from __future__ import annotations

import csv
import dataclasses
import heapq
import json
import math
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest

from benchmarks.landscape import coordinated, measure, pausing, peers, record, simulate
from benchmarks.landscape.__main__ import main
from benchmarks.landscape.account import Account, Run, Spent, Step, Training
from benchmarks.landscape.fidelity import leave_out
from benchmarks.landscape.pausing import Rungs
from benchmarks.landscape.ranks import rank_epochs
from benchmarks.landscape.replay import Answers, Encoding, Forest, Replay
from benchmarks.landscape.simulate import Landscape
from benchmarks.landscape.strategies import GROUPS, STRATEGIES, Ours, Peer
from benchmarks.landscape.table import CHANCE, CURVES, SPACE, START_SECONDS, Configuration, Table, read_landscape
from tuner.errors import UsageError
from tuner.records import Cost, Values
from tuner.search.rehearsal import NO_IMAGES
from tuner.search.samplers import make_sampler
from tuner.search.task import SearchTask
from tuner.space.parameters import Choice, Float, Int, Space
from tuner.space.reader import SpaceFile, parse_space, read_space

from .landscapes import made_up

PLAIN = Ours(sampler="random", pruner="none", portfolio=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Landscape:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return Landscape(*made_up(tmp_path_factory.mktemp("landscape")))


@pytest.fixture(scope="module")
def landscape(files: Landscape) -> tuple[SpaceFile, Table]:
    return read_landscape(files.space, files.curves)


@pytest.fixture(scope="module")
def replay(landscape: tuple[SpaceFile, Table]) -> Replay:
    return Replay(landscape[1], landscape[0].space)


@pytest.fixture
def open_account(landscape: tuple[SpaceFile, Table], replay: Replay) -> Callable[[float], Account]:
    task = SearchTask(landscape[0].space, landscape[0].settings, NO_IMAGES, landscape[1].epoch_images, 1)
    return lambda trainings: Account(
        Answers(replay), lambda values: bool(task.judge(values)[0]), trainings * landscape[1].full_training, 0
    )


# The table.


def test_seeds_of_one_configuration_are_joined_and_a_failed_training_is_worth_chance(
    landscape: tuple[SpaceFile, Table],
) -> None:
    _, table = landscape

    twice = [one for one in table.configurations if len(one.curves) == 2]
    failed = [one for one in table.configurations if len(one.curves[0]) < 9]

    assert len(twice) == 5
    assert table.trainings == len(table.configurations) + 5
    assert twice[0].final == pytest.approx((twice[0].curves[0][8] + twice[0].curves[1][8]) / 2)
    assert failed
    assert {one.final for one in failed} == {CHANCE}


def test_the_pace_is_the_median_of_the_recorded_seconds(landscape: tuple[SpaceFile, Table]) -> None:
    _, table = landscape
    one = table.configurations[0]

    assert table.pace == pytest.approx(6e-11, rel=0.01)
    assert table.epoch_seconds(one) == pytest.approx(
        6e-11 * (one.cost.multiply_adds + 2_500_000) * (5000 + 10_000 / 3), rel=0.01
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",adamw,", ",adamx,", "line 2: optimizer = adamx is outside the space"),
        (",onecycle,,", ",onecycle,0.1,", "line 2: warmup is not active there"),
        ("val_9", "val_10", "no column val_9"),
        ("learning_rate,", "rate,", "no column learning_rate"),
    ],
)
def test_a_table_of_another_space_is_refused_with_its_line(
    files: Landscape, tmp_path: Path, old: str, new: str, said: str
) -> None:
    wrong = tmp_path / "curves.csv"
    wrong.write_text(files.curves.read_text("utf-8").replace(old, new, 1), "utf-8")

    with pytest.raises(UsageError, match=said):
        read_landscape(files.space, wrong)


# Who answers.


def test_gowers_distance_counts_every_parameter_alike() -> None:
    parameters = {
        "a": Int(low=0, high=10),
        "b": Float(low=1e-4, high=1.0, log=True),
        "c": Choice(("x", "y", "z")),
        "d": Choice((0, 2, 8)),
        "e": Float(low=0.0, high=1.0, when={"c": ("x",)}),
    }
    encoding = Encoding(Space("s", "", "cnn", parameters))
    one = encoding.plain({"a": 0, "b": 1e-4, "c": "x", "d": 0, "e": 0.5})
    other = encoding.plain({"a": 5, "b": 1e-2, "c": "z", "d": 2})

    found = encoding.distances(one, np.array([one, other]))

    assert found[0] == 0
    assert found[1] == pytest.approx((0.5 + 0.5 + 1 + 0.5 + 1) / 5)


@pytest.mark.landscape
def test_what_was_recorded_answers_for_itself(replay: Replay) -> None:
    for number, one in enumerate(replay.table.configurations):
        assert replay.nearest(one.values) == number


@pytest.mark.landscape
def test_another_proposal_is_another_training_as_long_as_there_are_some(replay: Replay) -> None:
    answers, recorded = Answers(replay), replay.table.configurations
    close = [{**recorded[5].values, "learning_rate": 0.0123 + k / 1e6} for k in range(len(recorded))]

    told = [answers.to(values) for values in close]

    assert told[0] == replay.nearest(close[0])
    assert sorted(told) == list(range(len(recorded)))
    assert [answers.to(values) for values in close] == told
    assert answers.to({**close[0], "learning_rate": 0.02}) == replay.nearest({**close[0], "learning_rate": 0.02})
    assert answers.to(recorded[7].values) == 7


@pytest.mark.landscape
def test_where_answers_may_repeat_the_nearest_answers_every_time(replay: Replay) -> None:
    answers, recorded = Answers(replay, once=False), replay.table.configurations
    close = [{**recorded[5].values, "learning_rate": 0.0123 + k / 1e6} for k in range(20)]

    told = [answers.to(values) for values in close]

    assert told == [replay.nearest(values) for values in close]
    assert len(answers) == len(set(told)) < 20


@pytest.mark.landscape
def test_a_parameter_that_matters_decides_and_one_that_does_not_is_overlooked() -> None:
    random = np.random.default_rng(0)
    space = Space("s", "", "cnn", {"good": Float(low=0.0, high=1.0), "idle": Float(low=0.0, high=1.0)})
    drawn = [{"good": float(a), "idle": float(b)} for a, b in random.uniform(size=(200, 2))]
    recorded = tuple(Configuration(one, Cost(1, 1), "qmc", ((one["good"],),), one["good"]) for one in drawn)
    replay = Replay(Table(recorded, 1, 1.0, 1.0), space)

    off = [replay.configuration(replay.nearest({"good": k / 20, "idle": 0.9})).values for k in range(1, 20)]

    assert np.mean([abs(float(one["good"]) - k / 20) for k, one in enumerate(off, 1)]) < 0.02
    assert np.mean([abs(float(one["idle"]) - 0.9) for one in off]) > 0.05


@pytest.mark.landscape
def test_leaves_are_those_that_scikit_learn_finds() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    random = np.random.default_rng(0)
    features, target = random.uniform(size=(80, 5)), random.uniform(size=80)
    theirs = ExtraTreesRegressor(300, min_samples_leaf=3, random_state=0).fit(features, target).apply(features)

    ours = Forest(features, target).leaves(features)

    for tree in range(300):  # the same rows meet, by whatever number
        assert ((ours[:, tree, None] == ours[None, :, tree]) == (theirs[:, tree, None] == theirs[None, :, tree])).all()


@pytest.mark.landscape
def test_an_overlay_is_answered_for_by_those_that_have_it_or_refused(
    landscape: tuple[SpaceFile, Table], replay: Replay
) -> None:
    space_file, table = landscape
    few = dataclasses.replace(table, configurations=table.configurations[:25])
    overlaid = Replay(table, space_file.space, {"norm": "none"})

    answers = [overlaid.configuration(overlaid.nearest(one.values)).values for one in table.configurations]

    assert {one["norm"] for one in answers} == {"none"}
    with pytest.raises(UsageError, match="recorded configurations have schedule = cosine"):
        Replay(few, space_file.space, {"schedule": "cosine"})


@pytest.mark.landscape
def test_a_configuration_is_not_answered_for_by_one_that_differs_only_in_averaging() -> None:
    random = np.random.default_rng(0)
    space = Space("s", "", "cnn", {"idle": Float(low=0.0, high=1.0), "ema": Choice((0.0, 0.1))})
    recorded = tuple(
        Configuration({"idle": float(place), "ema": ema}, Cost(1, 1), "qmc", ((final,),), final)
        for place, final in random.uniform(size=(12, 2))
        for ema in (0.0, 0.1)
    )

    found = leave_out(Table(recorded, 1, 1.0, 1.0), space, 1)

    assert (found.configurations, found.groups) == (24, 12)
    assert max(found.final, found.final_by_distance) < 0.5
    assert found.apart > 10  # a twin is 0 points away


# Our own search.


@pytest.mark.landscape
@pytest.mark.parametrize("workers", [1, 2])
def test_without_a_pruner_a_random_search_is_what_a_pencil_computes(
    landscape: tuple[SpaceFile, Table], replay: Replay, workers: int
) -> None:
    space, table = landscape[0].space, landscape[1]
    budget = 8 * table.full_training
    ours = dataclasses.replace(PLAIN, workers=workers)

    run = coordinated.search(ours, space, Answers(replay), 3, budget)

    assert [(step.configuration, step.observed) for step in run.steps] == [
        (configuration, observed) for _, configuration, observed in by_hand(ours, space, replay, budget)
    ]
    assert [step.compute for step in run.steps] == pytest.approx(
        [when for when, *_ in by_hand(ours, space, replay, budget)]
    )


def by_hand(ours: Ours, space: Space, replay: Replay, budget: float) -> Iterator[tuple[float, int, float]]:
    """When the best changes, by CPU seconds, to what, and with which accuracy."""
    settings = ours.settings(3, replay.table.epochs)
    task = SearchTask(space, settings, NO_IMAGES, replay.table.epoch_images, ours.workers)
    study = optuna.create_study(sampler=make_sampler(settings, ours.space(space)))
    free, ends, best, number = [0.0] * ours.workers, list[tuple[float, int, float]](), 0.0, 0
    while min(free) * ours.workers < 2 * budget:
        values = space.sample(study.ask())
        number += 1
        if task.judge(values)[0]:
            continue
        began = heapq.heappop(free)
        answering = replay.nearest(values)
        recorded = replay.configuration(answering)
        curve = recorded.curves[task.job(number - 1, values, "").seed % len(recorded.curves)]
        seconds = START_SECONDS + min(len(curve) + 1, 9) * replay.table.epoch_seconds(recorded)
        heapq.heappush(free, began + seconds)
        if len(curve) == 9:
            ends.append((began + seconds, answering, curve[8]))
    for end, answering, reached in sorted(ends):
        if reached > best and end * ours.workers <= budget:
            best = reached
            yield end * ours.workers, answering, reached


@pytest.mark.landscape
def test_the_clock_counts_every_replayed_epoch_and_nothing_else(
    landscape: tuple[SpaceFile, Table], replay: Replay
) -> None:
    table = landscape[1]
    level = tuple(dataclasses.replace(one, cost=Cost(1, 2_000_000)) for one in table.configurations)
    replay = Replay(dataclasses.replace(table, configurations=level), landscape[0].space)
    seconds = replay.table.epoch_seconds(level[0])

    run = coordinated.search(Ours(sampler="random"), landscape[0].space, Answers(replay), 0, 5 * table.full_training)

    assert run.started > run.complete > 0
    assert run.compute == pytest.approx(run.started * START_SECONDS + run.epochs * seconds)
    assert 5 * table.full_training <= run.compute < 5 * table.full_training + 2 * seconds + START_SECONDS


@pytest.mark.landscape
def test_the_same_seed_gives_the_same_search(landscape: tuple[SpaceFile, Table], replay: Replay) -> None:
    space, budget = landscape[0].space, 6 * landscape[1].full_training

    first, again, other = (
        coordinated.search(Ours(startup_trials=4), space, Answers(replay), seed, budget) for seed in (0, 0, 1)
    )

    assert first == again
    assert first != other


@pytest.mark.landscape
def test_entries_come_first_and_a_portfolio_can_be_left_out(landscape: tuple[SpaceFile, Table], replay: Replay) -> None:
    space = landscape[0].space

    with_entries = coordinated.search(
        Ours(workers=1, pruner="none"), space, Answers(replay), 0, 4 * landscape[1].full_training
    )

    assert replay.configuration(with_entries.steps[0].configuration).part == "entry"
    assert Ours(portfolio=False).space(space).start_with == ()
    fixed = Ours(overlay={"schedule": "step"}).space(space)
    assert fixed.parameters["schedule"].grid() == ["step"]
    assert len(fixed.start_with) == len(space.start_with)


@pytest.mark.landscape
def test_a_search_whose_first_trials_all_fail_has_no_answer(landscape: tuple[SpaceFile, Table], replay: Replay) -> None:
    space, table = landscape[0].space, landscape[1]
    failing = tuple(dataclasses.replace(one, curves=((0.1,),), final=CHANCE) for one in table.configurations)
    replay = Replay(dataclasses.replace(table, configurations=failing), space)

    run = coordinated.search(PLAIN, space, Answers(replay), 0, 1e6)

    assert run.steps == ()
    assert run.started == pytest.approx(5, abs=1)


# Peers.


@pytest.mark.landscape
def test_an_epoch_is_seen_when_it_is_paid_for(open_account: Callable[[float], Account]) -> None:
    account = open_account(1.0)
    training = account.begin(account.replay.configuration(0).values, 0)
    affordable = math.floor((account.replay.table.full_training - START_SECONDS) / training.epoch_seconds + 1e-9)
    account.pay((account.replay.table.full_training - START_SECONDS) - affordable * training.epoch_seconds)

    seen = [training.epoch(1) for _ in range(affordable)]

    assert len(set(seen)) == 1
    with pytest.raises(Spent):
        training.epoch(2)


PEERS = [
    Peer("optuna", "tpe", "median"),
    Peer("optuna", "tpe", "hyperband"),
    Peer("optuna", "tpe", "halving"),
    Peer("optuna", "tpe", "halving", entries=True),
    Peer("optuna", "random", "median"),
    Peer("keras-tuner", "random", "hyperband"),
    Peer("keras-tuner", "gaussian process", "none"),
    Peer("ray", "random", "asha"),
]


@pytest.mark.landscape
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: "-".join(map(str, dataclasses.astuple(peer))))
def test_a_peer_pays_for_all_that_it_sees_and_repeats_itself_by_its_seed(
    landscape: tuple[SpaceFile, Table],
    open_account: Callable[[float], Account],
    monkeypatch: pytest.MonkeyPatch,
    peer: Peer,
) -> None:
    if peer.library == "ray":
        pytest.importorskip(
            "ray.tune", reason="ray[tune] is not there: benchmarks/requirements.txt", exc_type=ImportError
        )
    seen: list[tuple[Training, int]] = []
    see = Training.epoch
    monkeypatch.setattr(Training, "epoch", lambda self, epoch: seen.append((self, epoch)) or see(self, epoch))
    account = open_account(12.0)

    run = peers.search(peer, landscape[0].space, account)

    paid = len(seen) - 1 if len(seen) > run.epochs else len(seen)
    assert run.epochs == paid
    starts = START_SECONDS * run.started
    assert starts + sum(training.epoch_seconds for training, _ in seen[:paid]) <= 12.0 * landscape[1].full_training
    by_training: dict[Training, list[int]] = {}
    for training, epoch in seen:
        by_training.setdefault(training, []).append(epoch)
    assert all(epochs == list(range(epochs[0], epochs[0] + len(epochs))) for epochs in by_training.values())
    assert max(epoch for _, epoch in seen) == 9
    assert run.steps
    assert peers.search(peer, landscape[0].space, open_account(12.0)).steps == run.steps


@pytest.mark.landscape
def test_optuna_begins_with_the_entries_where_it_is_given_them(
    landscape: tuple[SpaceFile, Table], open_account: Callable[[float], Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    space, account = landscape[0].space, open_account(4.0)
    entries = [dict(entry) for entry in space.start_with if not account.refused(entry)]
    begun: list[Values] = []
    begin = Account.begin
    monkeypatch.setattr(
        Account, "begin", lambda self, values, number: begun.append(values) or begin(self, values, number)
    )

    peers.search(Peer("optuna", "tpe", "halving", entries=True), space, account)

    assert begun[: len(entries)] == entries
    assert begun[len(entries)] not in entries


@pytest.mark.landscape
def test_kerastuners_hyperband_goes_on_from_the_epochs_that_it_has_paid_for(
    landscape: tuple[SpaceFile, Table], open_account: Callable[[float], Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[Training, list[int]] = {}
    see = Training.epoch
    monkeypatch.setattr(
        Training, "epoch", lambda self, epoch: seen.setdefault(self, []).append(epoch) or see(self, epoch)
    )

    peers.search(Peer("keras-tuner", "random", "hyperband"), landscape[0].space, open_account(12.0))

    rounds = [(epochs[0], epochs[-1]) for epochs in seen.values()]
    assert rounds[:13] == [(1, 1)] * 9 + [(2, 3)] * 3 + [(4, 9)]


def test_kerastuner_is_given_the_same_space(landscape: tuple[SpaceFile, Table]) -> None:
    space = landscape[0].space

    told = peers.declared(space)

    assert [one.name for one in told.space] == list(space.parameters)
    told.values = {"optimizer": "adam", "schedule": "cosine"}
    assert told.is_active("warmup")
    assert not told.is_active("momentum")


# What it is worth.


def table_of(*curves: tuple[float, ...], values: Values | None = None) -> Table:
    recorded = tuple(Configuration(values or {}, Cost(1, 1), "qmc", (curve,), curve[-1]) for curve in curves)
    return Table(recorded, len(curves[0]), 1.0, 1.0)


def test_an_answer_is_worth_what_the_table_knows_and_not_what_was_observed() -> None:
    table = table_of((0.9,), (0.93,), (0.929,))
    run = Run((Step(10.0, 0, 0.95), Step(20.0, 2, 0.96), Step(30.0, 1, 0.97)), 3, 3, 3, 3, 30.0)

    assert measure.answers(run, table, [5.0, 10.0, 25.0, 40.0]) == [CHANCE, 0.9, 0.929, 0.93]
    assert measure.reached(run, table, 0.1) == 20.0
    assert measure.reached(run, table, 0.05) == 30.0
    assert measure.reached(Run(run.steps[:1], 1, 1, 1, 1, 10.0), table, 0.1) == math.inf


def test_quartiles_of_searches_that_did_not_all_arrive() -> None:
    assert measure.quartiles([4.0, math.inf, 1.0, 2.0]) == measure.Quartiles(1.0, 2.0, 4.0)
    assert measure.quartiles([4.0, math.inf, math.inf, 2.0, math.inf]).median == math.inf


def test_ranks_tell_an_epoch_that_misleads_from_one_that_does_not() -> None:
    finals = [0.5 + k / 100 for k in range(12)]
    table = table_of(*((1 - final, final - 0.1, final) for final in finals), values={"schedule": "cosine"})

    rows = {(row.group, row.epoch): row for row in rank_epochs(table)}

    assert {group for group, _ in rows} == {"all", "part qmc", "schedule cosine"}
    assert rows["all", 1].spearman == pytest.approx(-1)
    assert rows["all", 1].kept == 0
    assert rows["all", 2].spearman == pytest.approx(1)
    assert rows["schedule cosine", 2].spearman_better_half == pytest.approx(1)
    assert rows["all", 2].kept == 1


@pytest.mark.landscape
def test_one_command_simulates_and_another_draws(
    files: Landscape,
    replay: Replay,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ["--space", str(files.space), "--curves", str(files.curves), "--out", str(tmp_path)]
    wanted = ["--strategies", "ours", "ours, random", "Optuna random, median", "--seeds", "2", "--trainings", "4"]

    assert command(monkeypatch, "simulate", *place, *wanted) == 0
    assert command(monkeypatch, "figures", *place) == 0
    assert command(monkeypatch, "ranks", *place) == 0

    assert "6 searches" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        "about.json", "anytime.csv", "anytime.png", "compute.png", "ranks.csv", "runs.csv", "summary.csv",
    }  # fmt: skip
    assert len((tmp_path / "runs.csv").read_text("utf-8").splitlines()) == 7


@pytest.fixture
def simulated(files: Landscape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Simulates some strategies of a budget of 3 trainings by the command, with more words of it."""
    monkeypatch.setattr(simulate, "source", lambda: "1234567890ab")

    def command_with(*names: str, more: tuple[str, ...] = ("--seeds", "2")) -> int:
        place = ["--space", str(files.space), "--curves", str(files.curves), "--out", str(tmp_path)]
        return command(monkeypatch, "simulate", *place, "--strategies", *names, "--trainings", "3", *more)

    return command_with


def strategies_in(table: Path) -> list[str]:
    return [row["strategy"] for row in csv.DictReader(table.read_text("utf-8").splitlines())]


@pytest.mark.landscape
def test_a_simulation_adds_to_the_same_experiment_and_does_nothing_twice(
    simulated: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, peer = tmp_path / "runs.csv", "Optuna random, median"

    simulated(peer)
    first = strategies_in(runs)
    simulated("ours, random", peer)
    text = runs.read_text("utf-8")
    said = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(simulate, "source", lambda: "1234567890ab-dirty")
    simulated(peer)

    assert first == [peer] * 2
    assert strategies_in(runs) == ["ours, random"] * 2 + first
    assert said[2].split() == [*peer.split(), "is", "there,", "by", "1234567890ab"]
    assert said[-1].startswith("2 searches in")
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 searches in")  # whatever that was is not there
    assert runs.read_text("utf-8") == text
    commits = json.loads((tmp_path / "about.json").read_text("utf-8"))["commits"]
    assert commits == {peer: "1234567890ab-dirty", "ours, random": "1234567890ab"}


@pytest.mark.landscape
@pytest.mark.parametrize(
    ("more", "said"), [(("--seeds", "1"), "seeds"), (("--seeds", "2", "--answers", "any"), "answers")]
)
def test_another_experiments_tables_stay_as_they_are(
    simulated: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
) -> None:
    simulated("ours, random")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    code = simulated("ours, random", more=more)

    assert code == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path} holds another experiment: it differs in {said} (another --out, or remove that folder)\n"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.landscape
def test_a_simulation_that_is_killed_keeps_the_strategies_that_it_has_done(
    simulated: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> Run:
        raise KeyboardInterrupt

    monkeypatch.setattr(peers, "search", killed)
    with pytest.raises(KeyboardInterrupt):
        simulated("ours, random", "Optuna random, median")
    monkeypatch.setattr(coordinated, "search", killed)  # by whom nothing is asked again
    monkeypatch.setattr(simulate, "versions", dict)  # nor says anything new

    assert strategies_in(tmp_path / "runs.csv") == ["ours, random"] * 2
    assert strategies_in(tmp_path / "summary.csv") == ["ours, random"]
    assert simulated("ours, random") == 0
    about = json.loads((tmp_path / "about.json").read_text("utf-8"))
    assert about["commits"] == {"ours, random": "1234567890ab"}
    assert about["versions"]


def test_what_is_simulated_together_is_there() -> None:
    assert {name for group in GROUPS.values() for name in group} == set(STRATEGIES)


@pytest.mark.landscape
def test_a_strategy_of_some_patience_ends_before_its_budget(landscape: tuple[SpaceFile, Table], replay: Replay) -> None:
    space, budget = landscape[0].space, 40 * landscape[1].full_training

    run = coordinated.search(Ours(sampler="random", patience=3), space, Answers(replay), 0, budget)

    assert run.steps
    assert run.compute < budget / 2


# The recording.


def test_what_was_recorded_elsewhere_stays_in_the_table(tmp_path: Path) -> None:
    table = tmp_path / "curves.csv"
    shutil.copy(CURVES, table)

    record.write_rows(str(tmp_path / "out"), table)

    assert table.read_bytes() == CURVES.read_bytes()
    assert [row["part"] for row in record.rows_of("near-2", table)] == ["near-2"] * 66


def test_the_recorded_space_stands_alone_and_is_the_one_that_was_recorded() -> None:
    space_file = read_space(str(SPACE))

    assert "extends" not in tomllib.loads(SPACE.read_text("utf-8"))
    assert space_file.hash == "951299e28e0f8126"
    assert (space_file.settings.epochs, space_file.settings.train_images) == (9, 5000)


def test_a_parts_space_has_its_first_trials_in_place_of_the_spaces_own() -> None:
    wanted = record.first_trials("pairs", CURVES)["start_with"]

    part = parse_space("pairs", record.space_of("pairs", CURVES))

    assert list(part.space.start_with) == wanted
    assert part.space.parameters == read_space(str(SPACE)).space.parameters


def test_a_part_begins_with_the_best_of_what_was_recorded_before() -> None:
    space = record.read_space(str(record.SPACE)).space

    near, again, pairs = (record.first_trials(part, CURVES)["start_with"] for part in ("near-1", "again-4", "pairs"))

    assert record.first_trials("qmc", CURVES) == {}
    finals = sorted(float(row["val_9"] or 0) for row in record.rows_of("qmc", CURVES))
    best = [
        record.read_values(row, space)
        for row in record.rows_of("qmc", CURVES)
        if float(row["val_9"] or 0) >= finals[-5]
    ]
    assert len(near) == 5 + len(space.start_with)
    assert all(one in best for one in near[:5])
    assert len(again) == 20
    assert [one["ema"] for one in pairs] == [0.0, 0.1, 0.25] * 12
    assert all({**one, "ema": 0.0} == pairs[3 * (k // 3)] for k, one in enumerate(pairs))


def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "simulate", "--out", str(tmp_path), "--strategies", "mine") == 2
    assert command(monkeypatch, "figures", "--out", str(tmp_path)) == 2
    none = [*("--space", "cnn", "--curves", str(tmp_path / "none.csv")), "--out", str(tmp_path)]
    assert command(monkeypatch, "ranks", *none) == 2

    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: no strategy mine (there are: ours; ")
    assert said[1].endswith("about.json: No such file or directory (python -m benchmarks.landscape simulate)")
    assert said[2].endswith("none.csv: No such file or directory (python -m benchmarks.landscape.record makes it)")


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["landscape", *words])
    return main()


# Pausing.


def test_a_trial_that_waits_goes_on_when_enough_worse_ones_have_come_to_its_rung() -> None:
    halving = Rungs([1, 3], 3)

    went: list[int | None] = []
    for number, value in enumerate([0.3, 0.9, 0.5, 0.2, 0.4, 0.1]):
        halving.arrived(number, 1, value)
        went.append(halving.promoted())

    assert went == [0, 1, None, None, None, 2]
    halving.arrived(1, 3, 0.95)
    assert halving.promoted() == 1  # the highest rung first
    assert halving.promoted() is None


@pytest.mark.landscape
def test_a_pausing_search_sees_what_it_pays_for_and_takes_trials_up_again(
    landscape: tuple[SpaceFile, Table], open_account: Callable[[float], Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Training, int]] = []
    see = Training.epoch
    monkeypatch.setattr(Training, "epoch", lambda self, epoch: seen.append((self, epoch)) or see(self, epoch))
    ours = Ours(pausing=True, sampler="random")

    run, again = (pausing.search(ours, landscape[0].space, open_account(20.0)) for _ in range(2))

    assert run == again
    assert run.complete > 0
    mine = seen[: len(seen) // 2]
    trainings = {training for training, _ in mine}
    assert run.started > len(trainings)  # some began again where they had paused
    for one in trainings:
        epochs = [epoch for training, epoch in mine if training is one]
        assert epochs == list(range(1, len(epochs) + 1))
