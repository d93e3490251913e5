"""Peers as their own code runs them, on the table: Optuna's ``study.optimize``, KerasTuner's oracles, Ray Tune's ASHA.

All see the same space and limits. Configurations over the limits cost nothing: Optuna's objective prunes them, as its
examples do; for KerasTuner, whose oracles would leave gaps in a bracket for them and give up after three, and for
Ray's random draws another one is drawn. None has the space's known-good entries, but for Optuna as a control.
"""

from __future__ import annotations

import contextlib
import heapq
import types
import warnings
from typing import Any, assert_never

import optuna

from benchmarks.landscape.account import Account, Run, Spent, Training
from benchmarks.landscape.strategies import MANY, Peer
from tuner.errors import EnvironmentProblem
from tuner.records import Values
from tuner.search.study import experimental
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, Space

FACTOR = 3
"""KerasTuner's own default, and Hyperband's."""
RAY_WORKERS = 2


def search(peer: Peer, space: Space, account: Account) -> Run:
    """Let ``peer`` search until the budget is spent. Raises EnvironmentProblem when its library is not there."""
    try:
        with contextlib.suppress(Spent):
            match peer.library:
                case "optuna":
                    _optuna(peer, space, account)
                case "keras-tuner":
                    _keras_tuner(peer, space, account)
                case _:
                    _ray(space, account)
    except ImportError as error:
        hint = "benchmarks/requirements.txt has it"
        raise EnvironmentProblem(f"{peer.library} is not there: {error}", hint=hint) from None
    return account.run()


# Optuna, as its pruning examples write it.


def _optuna(peer: Peer, space: Space, account: Account) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a spent budget is no failed trial
    sampler = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[peer.sampler]
    pruner: optuna.pruners.BasePruner
    match peer.pruner:
        case "hyperband":  # "auto" would prune nothing until a trial is complete: its example gives the epochs
            pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=account.last_epoch)
        case "halving":
            pruner = optuna.pruners.SuccessiveHalvingPruner()
        case _:
            pruner = optuna.pruners.MedianPruner()
    # Hyperband deals brackets by the study's name.
    name = f"{peer.sampler}-{peer.pruner}-{account.seed}"
    with experimental():
        study = optuna.create_study(
            direction="maximize", study_name=name, sampler=sampler(seed=account.seed), pruner=pruner
        )

    def objective(trial: optuna.Trial) -> float:
        values = space.sample(trial)
        if account.refused(values):
            raise optuna.TrialPruned
        training, accuracy = account.begin(values, trial.number), 0.0
        for epoch in range(1, account.last_epoch + 1):
            accuracy = training.epoch(epoch)
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        account.found(training, accuracy)
        return accuracy

    for entry in space.start_with if peer.entries else ():
        study.enqueue_trial(dict(entry))
    study.optimize(objective)


# KerasTuner: the oracle decides, and its tuner goes on from an earlier trial's epochs.


def _keras_tuner(peer: Peer, space: Space, account: Account) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.10, in its every call
        import keras_tuner

        objective = keras_tuner.Objective("val_accuracy", "max")
        told: dict[str, Any] = {"objective": objective, "seed": account.seed + 1, "hyperparameters": declared(space)}
        if peer.pruner == "hyperband":
            oracle = keras_tuner.oracles.HyperbandOracle(
                max_epochs=account.last_epoch, factor=FACTOR, hyperband_iterations=MANY, **told
            )
        else:
            # A refused proposal fails, of which three in a row would end its search.
            oracle = keras_tuner.oracles.BayesianOptimizationOracle(
                max_trials=None, max_consecutive_failed_trials=MANY, **told
            )
        oracle.verbose = 0
        oracle.save = oracle._save_trial = lambda *_: None  # noqa: SLF001  # nothing is to be resumed
        draw = oracle._random_values  # noqa: SLF001

        def within_limits() -> Values | None:
            values: Values | None = draw()
            while values is not None and account.refused(_plain(values)):
                values = draw()
            return values

        oracle._random_values = within_limits  # noqa: SLF001
        begun: dict[str, int] = {}
        while True:
            _run_trial(oracle, account, begun)


def _run_trial(oracle: Any, account: Account, begun: dict[str, int]) -> None:  # noqa: ANN401  # KerasTuner is untyped
    """Do what ``Tuner.search`` and ``Hyperband.run_trial`` do; the score is the best epoch's, as they take it.

    ``begun`` has of each trial the number of the first one whose training it goes on with.
    """
    trial = oracle.create_trial("tuner0")
    if trial.status != "RUNNING":
        raise Spent
    told = trial.hyperparameters.values
    values = _plain(told)
    last = int(told.get("tuner/epochs", account.last_epoch))
    if account.refused(values):  # of the Gaussian process's own proposal
        trial.status = "FAILED"
    else:
        begun[trial.trial_id] = begun.get(told.get("tuner/trial_id"), int(trial.trial_id))
        training = account.begin(values, begun[trial.trial_id])
        reached = max(training.epoch(epoch) for epoch in range(int(told.get("tuner/initial_epoch", 0)) + 1, last + 1))
        oracle.update_trial(trial.trial_id, {"val_accuracy": reached})
        trial.status = "COMPLETED"
        if last == account.last_epoch:
            account.found(training, reached)
    oracle.end_trial(trial)


def _plain(values: Values) -> Values:
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def declared(space: Space) -> Any:  # noqa: ANN401  # KerasTuner is untyped
    """Return KerasTuner's form of ``space``, conditions included."""
    import keras_tuner
    from keras_tuner.src.engine.conditions import Parent

    told = keras_tuner.HyperParameters()
    for name, parameter in space.parameters.items():
        # What nested conditional_scopes set; those want every parent to be declared within the ones before it.
        told._conditions = [Parent(parent, list(allowed)) for parent, allowed in parameter.when.items()]  # noqa: SLF001
        _declare(told, name, parameter)
    told._conditions = []  # noqa: SLF001
    return told


def _declare(told: Any, name: str, parameter: Parameter) -> None:  # noqa: ANN401
    match parameter:
        case Int() | Float():
            kind = told.Int if isinstance(parameter, Int) else told.Float
            sampling = "log" if parameter.log else "linear"
            kind(name, parameter.low, parameter.high, step=None if parameter.log else parameter.step, sampling=sampling)
        case Choice(options=(False, True)):
            told.Boolean(name)
        case Choice():
            told.Choice(name, list(parameter.options))
        case Fixed():
            told.Fixed(name, parameter.value)
        case _:
            assert_never(parameter)


# Ray Tune: random draws, two trials at once, its real scheduler with its defaults.


def _ray(space: Space, account: Account) -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

    scheduler = AsyncHyperBandScheduler(metric="val_accuracy", mode="max", max_t=account.last_epoch)
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=account.seed))  # uniform, as Ray's are
    trainings: dict[int, tuple[Training, Any]] = {}
    due: list[tuple[float, int, int]] = []
    """The ends of the running epochs: when, of which trial, which epoch. Each is paid for when it has ended."""

    def start(now: float) -> None:
        while account.refused(values := space.sample(draws.ask())):
            pass
        number = len(trainings)
        training, trial = account.begin(values, number), types.SimpleNamespace(trial_id=str(number))
        trainings[number] = (training, trial)
        scheduler.on_trial_add(None, trial)
        heapq.heappush(due, (now + training.epoch_seconds, number, 1))

    for _ in range(RAY_WORKERS):
        start(0.0)
    while True:
        now, number, epoch = heapq.heappop(due)
        training, trial = trainings[number]
        result = {"training_iteration": epoch, "val_accuracy": training.epoch(epoch)}
        if scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE:
            heapq.heappush(due, (now + training.epoch_seconds, number, epoch + 1))
            continue
        if epoch == account.last_epoch:
            account.found(training, result["val_accuracy"])
        scheduler.on_trial_complete(None, trial, result)
        start(now)
