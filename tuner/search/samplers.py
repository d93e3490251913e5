"""Which values come next: a matter of the seed, the trial's number and the study, whatever was resumed in between."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from tuner.errors import SpaceError
from tuner.records import Values, seed_for
from tuner.search.study import UNTRAINED, end_of, experimental
from tuner.space.parameters import Choice, Fixed, Float, Int, Space
from tuner.space.settings import SearchSettings


class PerTrial(BaseSampler):
    """A random sampler for the start-up trials and TPE after them, each made anew from (seed, trial number).

    The same sampler seed after a resume would repeat the same trials, and TPE's own count of start-up trials depends
    on which have ended, thus on timing. A TPE that lives and is seeded anew would draw by the order in which trials
    ended, which its groups of parameters remember, and save nothing.
    """

    def __init__(self, seed: int, startup_trials: int | None) -> None:
        """Keep the seed; ``startup_trials`` None is random for ever."""
        self._seed, self._startup = seed, startup_trials
        self._models: dict[int, bool] = {}
        """Whether TPE draws a trial's values, by its number: hypermodels ask for those of several trials in turn."""
        self._now: BaseSampler = RandomSampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        number = trial.number
        self._models[number] = self._startup is not None and _trained_before(study, trial, self._startup)
        self._now = self._make(seed_for(self._seed, "sampler", number), models=self._models[number])
        self._now.before_trial(study, trial)

    def _make(self, seed: int, *, models: bool) -> BaseSampler:
        if not models:
            return RandomSampler(seed=seed)
        with experimental():
            # Conditional spaces need group=True; constant_liar is Optuna 5's default and repels running trials.
            return TPESampler(seed=seed, n_startup_trials=1, multivariate=True, group=True)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Pass on."""
        return self._now.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Pass on."""
        return self._now.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # Optuna's signature
        """Draw with a seed of the parameter's own: a search that died between two parameters draws the same again."""
        models = self._models[trial.number]
        alone = self._make(seed_for(self._seed, "sampler", trial.number, param_name), models=models)
        return alone.sample_independent(study, trial, param_name, param_distribution)


def _trained_before(study: optuna.Study, trial: FrozenTrial, enough: int) -> bool:
    """Tell whether ``enough`` trials before this one were trained, or are: the others teach a model little."""
    earlier = itertools.takewhile(lambda other: other.number < trial.number, study.get_trials(deepcopy=False))
    trained = (other for other in earlier if end_of(other) not in UNTRAINED)
    return sum(1 for _ in itertools.islice(trained, enough)) == enough


class WholeSpaceQmc(QMCSampler):
    """Scrambled Sobol points over every parameter of a space, conditional ones included.

    Optuna's own sampler takes the first trial's parameters for the space, and leaves the rest to chance.
    """

    def __init__(self, seed: int, distributions: dict[str, BaseDistribution]) -> None:
        """Keep the distributions of all parameters."""
        with experimental():
            super().__init__(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)
        self._distributions = distributions
        self._number = 0

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Return the whole space; parameters that turn out inactive are not asked for."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point of the trial's number."""
        self._number = trial.number
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:  # noqa: ARG002
        # Optuna counts points in the study, before their values are stored: a search that dies between two values
        # would go on with another point.
        return self._number


class GridPoints(BaseSampler):
    """Every configuration of a finite space once, in an order shuffled by the seed: point k is trial k."""

    def __init__(self, seed: int, points: Sequence[Values]) -> None:
        """Shuffle the points."""
        order = np.random.default_rng(seed_for(seed, "grid")).permutation(len(points))
        self.points = [points[index] for index in order]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Nothing is relative in a grid."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]  # noqa: ARG002
    ) -> dict[str, Any]:  # fmt: skip
        """Nothing is relative in a grid."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution  # noqa: ARG002
    ) -> Any:  # noqa: ANN401  # fmt: skip
        """Return the point's value."""
        return self.points[trial.number][param_name]


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of every parameter that varies."""
    return {
        name: distribution_of(parameter)
        for name, parameter in space.parameters.items()
        if not isinstance(parameter, Fixed)
    }


def distribution_of(parameter: Int | Float | Choice) -> BaseDistribution:
    """Return Optuna's distribution of a parameter."""
    match parameter:
        case Int():
            return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
        case Float():
            return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
        case Choice():
            return CategoricalDistribution(parameter.options)
        case _:
            assert_never(parameter)


def make_sampler(settings: SearchSettings, space: Space) -> BaseSampler:
    """Return the sampler that ``settings`` name. Raises SpaceError for a grid over an infinite space."""
    if space.hypermodel and settings.sampler in ("qmc", "grid"):
        said = f"sampler = {settings.sampler} needs to know the space before, and a hypermodel tells it while it builds"
        raise SpaceError(said, hint="--sampler tpe, or random")
    match settings.sampler:
        case "tpe":
            return PerTrial(settings.seed, settings.startup_trials)
        case "random":
            return PerTrial(settings.seed, None)
        case "qmc":
            return WholeSpaceQmc(settings.seed, distributions_of(space))
        case _:
            return GridPoints(settings.seed, space.grid())
