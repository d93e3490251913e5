"""Which values come next: a matter of the seed, the trial's number and the study, whatever was resumed in between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from tuner.errors import SpaceError
from tuner.records import Value, Values, seed_for
from tuner.search.study import UNTRAINED, end_of, experimental
from tuner.space.parameters import Choice, Fixed, Float, Int, Space
from tuner.space.settings import SearchSettings

DRAWN_ANEW = 0.25
"""Of a known-good configuration's values, in a trial near it."""
STEP = 0.25
"""Standard deviation of a new number, as a share of its range."""
TRIES = 20
"""Steps that are drawn until one leads elsewhere: a short one may be rounded to where it began."""
ANYWHERE = 3
"""Every so-manieth trial before the model is drawn anywhere: entries may be bad, or over the limits."""


class PerTrial(BaseSampler):
    """A random sampler for the start-up trials and TPE after them, each made anew from (seed, trial number).

    The same sampler seed after a resume would repeat the same trials, and TPE's own count of start-up trials depends
    on which have ended, thus on timing. A TPE that lives and is seeded anew would draw by the order in which trials
    ended, which its groups of parameters remember, and save nothing.
    """

    def __init__(self, seed: int, startup_trials: int | None, near: Sequence[Values] = ()) -> None:
        """Keep the seed; ``startup_trials`` None is random for ever. Else most of them are ``near`` these, if any."""
        self._seed, self._startup, self._near = seed, startup_trials, [entry for entry in near if entry]
        self._models: dict[int, bool] = {}
        """Whether TPE draws a trial's values, by its number: hypermodels ask for those of several trials in turn."""
        self._now: BaseSampler = RandomSampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        number = trial.number
        self._models[number] = self._startup is not None and _trained_before(study, trial, self._startup)
        self._now = self._make(number, models=self._models[number])
        self._now.before_trial(study, trial)

    def _make(self, number: int, *more: str, models: bool) -> BaseSampler:
        seed = seed_for(self._seed, "sampler", number, *more)
        if not models:
            near = self._near and number % ANYWHERE
            return Near(seed, self._known(number)) if near else RandomSampler(seed=seed)
        with experimental():
            # Conditional spaces need group=True; constant_liar is Optuna 5's default and repels running trials.
            return TPESampler(seed=seed, n_startup_trials=1, multivariate=True, group=True)

    def _known(self, number: int) -> dict[str, tuple[Value, bool]]:
        """Return a known-good configuration for a trial: each value, and whether it stays as it is; one does not."""
        chance = np.random.default_rng(seed_for(self._seed, "near", number))
        entry = self._near[int(chance.integers(len(self._near)))]
        stays = chance.random(len(entry)) >= DRAWN_ANEW
        stays[chance.integers(len(entry))] = False
        return {name: (entry[name], bool(keep)) for name, keep in zip(sorted(entry), stays, strict=True)}

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
        alone = self._make(trial.number, param_name, models=models)
        return alone.sample_independent(study, trial, param_name, param_distribution)


class Near(RandomSampler):
    """Draws around a configuration that is known to be good: most of its values stay, some are drawn anew.

    As PriorBand perturbs what it trusts (Mallik et al. 2023): a number by a normal step in its own scale, a choice to
    any other. What the configuration does not name is drawn at random.
    """

    def __init__(self, seed: int, known: Mapping[str, tuple[Value, bool]]) -> None:
        """Keep the configuration: each value, and whether it stays."""
        super().__init__(seed=seed)
        self._known, self._chance = known, np.random.default_rng(seed)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # Optuna's signature
        """Keep the value, or draw near it."""
        value, stays = self._known.get(param_name, (None, False))
        if not _is_in(param_distribution, value):  # a hypermodel may have changed, or ask by another value
            return super().sample_independent(study, trial, param_name, param_distribution)
        if isinstance(param_distribution, CategoricalDistribution):
            others = [other for other in param_distribution.choices if other != value]
            return others[self._chance.integers(len(others))] if others and not stays else value
        assert isinstance(param_distribution, FloatDistribution | IntDistribution)  # noqa: S101  # there is no other
        number = float(value)  # type: ignore[arg-type]  # it is in it
        moves = (_moved(param_distribution, number, share) for share in self._chance.normal(0, STEP, TRIES))
        moved = number if stays else next((one for one in moves if not math.isclose(one, number)), number)
        return round(moved) if isinstance(param_distribution, IntDistribution) else moved


def _is_in(distribution: BaseDistribution, value: Value) -> bool:
    """Tell whether a parameter may have ``value``, whatever that is."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))  # noqa: SLF001  # Optuna asks no other way
    except (TypeError, ValueError):
        return False


def _moved(distribution: FloatDistribution | IntDistribution, value: float, share: float) -> float:
    """Return ``value`` moved by a share of the range, or of the range of logarithms; at most to its end."""
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        moved: float = value * (high / low) ** share
    else:
        moved = value + share * (high - low)
        if distribution.step is not None:
            moved = low + round((moved - low) / distribution.step) * distribution.step
    moved = min(max(moved, low), high)
    return float(round(moved)) if isinstance(distribution, IntDistribution) else moved


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


def _centres(settings: SearchSettings, space: Space) -> list[Values]:
    """Return the configurations that the first trials are drawn near: what of them can vary."""
    if settings.startup != "near":
        return []
    varying = {name for name, distribution in distributions_of(space).items() if not distribution.single()}
    return [
        {name: value for name, value in entry.items() if name in varying or space.hypermodel}
        for entry in space.start_with
    ]


def make_sampler(settings: SearchSettings, space: Space) -> BaseSampler:
    """Return the sampler that ``settings`` name. Raises SpaceError for a grid over an infinite space."""
    if space.hypermodel and settings.sampler in ("qmc", "grid"):
        said = f"sampler = {settings.sampler} needs to know the space before, and a hypermodel tells it while it builds"
        raise SpaceError(said, hint="--sampler tpe, or random")
    match settings.sampler:
        case "tpe":
            return PerTrial(settings.seed, settings.startup_trials, _centres(settings, space))
        case "random":
            return PerTrial(settings.seed, None)
        case "qmc":
            return WholeSpaceQmc(settings.seed, distributions_of(space))
        case _:
            return GridPoints(settings.seed, space.grid())
