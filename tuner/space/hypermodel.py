"""The one room that knows KerasTuner: its file loaded, and a ``HyperParameters`` that asks somebody else for values.

A worker imports this; the process that searches does not.
"""

from __future__ import annotations

import copy
import inspect
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import keras_tuner
from keras_tuner.engine import hyperparameters as kinds

from tuner.errors import SpaceError
from tuner.records import Value, Values
from tuner.space.asked import Asked
from tuner.space.hypermodel_file import HypermodelFile
from tuner.space.parameters import Choice, Fixed, Float, Int, Parameter, When, nearest_value

Ask: TypeAlias = Callable[[Asked], Value]


class AskingHyperParameters(keras_tuner.HyperParameters):  # type: ignore[misc]  # KerasTuner is untyped
    """KerasTuner's own container, scopes and conditions included, whose active values somebody else decides."""

    def __init__(self, values: Values, ask: Ask) -> None:
        """Know ``values`` already, and ``ask`` for every other one, once."""
        super().__init__()
        self._known, self._ask = values, ask

    def _register(self, hyperparameter: Any, overwrite: bool = False) -> Value:  # noqa: ANN401, ARG002, FBT001, FBT002  # KerasTuner's signature
        self._validate_name(hyperparameter.name)
        own = copy.deepcopy(hyperparameter)
        self._hps[own.name].append(own)
        self._space.append(own)
        if not self.is_active(own):
            return None  # as KerasTuner: nobody is to lean on it
        if own.name not in self.values:
            known = own.name in self._known
            self.values[own.name] = self._known[own.name] if known else self._ask(asked_of(own))
        value: Value = self.values[own.name]
        return value


def asked_of(hp: Any) -> Asked:  # noqa: ANN401
    """Return what a KerasTuner hyperparameter asks for: the same values that its own tuners would draw from."""
    when: When = {condition.name: tuple(condition.values) for condition in hp.conditions}
    parameter = _parameter_of(hp, when)
    mirrored = getattr(hp, "sampling", None) == "reverse_log" and not isinstance(parameter, Choice)
    return Asked(hp.name, parameter, nearest_value(parameter, hp.default), mirrored)


def _parameter_of(hp: Any, when: When) -> Parameter:  # noqa: ANN401
    if isinstance(hp, kinds.Fixed):
        return Fixed(hp.value, when)
    if isinstance(hp, kinds.Boolean):
        return Choice((False, True), when)
    if isinstance(hp, kinds.Choice):
        return Choice(tuple(dict.fromkeys(hp.values)), when)
    linear = hp.sampling == "linear"
    if hp.step is not None and not linear:  # Optuna has no steps on a log scale
        whole = int if isinstance(hp, kinds.Int) else float
        return Choice(tuple(dict.fromkeys(whole(value) for value in hp.values)), when)
    high = hp.max_value
    if hp.step is not None:
        # Of a range that is no whole number of steps KerasTuner leaves out the end, sometimes for rounding alone.
        high = hp._get_value_by_index(hp._get_n_values() - 1)  # noqa: SLF001  # without a list of all the others
    if isinstance(hp, kinds.Int):
        return Int(int(hp.min_value), int(high), int(hp.step or 1), log=not linear, when=when)
    step = None if hp.step is None else float(hp.step)
    return Float(float(hp.min_value), float(f"{high:.12g}"), step, log=not linear, when=when)


# The user's file.


class Loaded:
    """A hypermodel that can build and fit."""

    def __init__(self, file: HypermodelFile) -> None:
        """Run the file, once in this process. Raises SpaceError: what, and in which line."""
        self.file = file
        module = _run(file)
        self.objects = {name: value for name, value in vars(module).items() if callable(value)}
        """What its models may hold: its own layers and functions, registered with Keras or not."""
        self._hypermodel = _made(file, _chosen(file, module))
        self.own_fit = type(self._hypermodel).fit is not keras_tuner.HyperModel.fit
        """It trains in a way of its own."""

    def build(self, hp: AskingHyperParameters) -> Any:  # noqa: ANN401
        """Return what the hypermodel builds. What its code raises becomes a SpaceError that names the line."""
        with _Lines(self.file, "it cannot be built"):
            self._hypermodel.declare_hyperparameters(hp)
            return self._hypermodel.build(hp)

    def fit(self, hp: AskingHyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Call its own ``fit``. Raises OwnEpochs, and what its code raises as a SpaceError that names the line."""
        taken = inspect.signature(self._hypermodel.fit).parameters
        if not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
            kwargs = {name: value for name, value in kwargs.items() if name in taken}
        with _Lines(self.file, "its fit failed"):
            try:
                return self._hypermodel.fit(hp, model, *args, **kwargs)
            except TypeError as error:
                if "multiple values for keyword argument 'epochs'" in str(error):
                    raise OwnEpochs from None
                raise


class OwnEpochs(BaseException):
    """A ``fit`` that hands its own number of epochs on, beside all that it was given."""


class _Lines:
    """Turns what a user's code raises into one line with its place."""

    def __init__(self, file: HypermodelFile, what: str) -> None:
        self._file, self._what = file, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, Exception | SystemExit) or isinstance(error, SpaceError):
            return
        traceback.print_exception(error)  # into the worker's log
        raise SpaceError(f"{self._file.called}: {self._what}: {_said(error)}{_place(self._file, error)}") from None


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:300]}".rstrip(": ")


def _place(file: HypermodelFile, error: BaseException) -> str:
    """Return the innermost line of the file that the error came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file.path]
    return f" (line {lines[-1]})" if lines else ""


def _run(file: HypermodelFile) -> types.ModuleType:
    """Import the text that the study keeps as if it were the file, which may have changed or gone."""
    path = Path(file.path)
    # A saved model names its layers' module: elsewhere that is the file. One called like a library is not to hide it.
    name = path.stem if path.stem not in sys.modules else f"hypermodel_{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = file.path
    linecache.cache[file.path] = (len(file.text), None, file.text.splitlines(keepends=True), file.path)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # behind the libraries: a file called like one of them hides it from nobody
    sys.modules[name] = module
    with _Lines(file, "it cannot be imported"):
        exec(compile(file.text, file.path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # what the user asked for
    return module


def _chosen(file: HypermodelFile, module: types.ModuleType) -> Any:  # noqa: ANN401
    """Return the one thing in the file that can be searched. Raises SpaceError when that is none or several."""
    if file.name:
        if not hasattr(module, file.name):
            names = ", ".join(name for name, _ in _candidates(module)) or "nothing that builds"
            raise SpaceError(f"{file.called}: there is no '{file.name}' in it", hint=f"there is: {names}")
        return getattr(module, file.name)
    found = dict(_candidates(module)) or dict(_candidates(module, another_name=True))
    if len(found) != 1:
        names = " and ".join(found) or "neither a function of 'hp' alone nor a HyperModel"
        hint = f"name one: {file.called}:{next(iter(found))}" if found else "e.g. def build_model(hp): …"
        raise SpaceError(f"{file.called}: what is to be searched? There is {names}", hint=hint)
    return next(iter(found.values()))


def _candidates(module: types.ModuleType, *, another_name: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield what the file itself makes and could be meant: an object stands for its class.

    ``another_name``: also functions of one argument that is not called hp.
    """
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    made = {name: value for name, value in own.items() if isinstance(value, keras_tuner.HyperModel)}
    yield from made.items()
    for name, value in own.items():
        if getattr(value, "__module__", None) != module.__name__:
            continue  # imported
        if inspect.isclass(value) and issubclass(value, keras_tuner.HyperModel):
            if not any(isinstance(one, value) for one in made.values()) and not inspect.isabstract(value):
                yield name, value
        elif inspect.isfunction(value) and (_needed(value) == ["hp"] or (another_name and len(_needed(value)) == 1)):
            yield name, value


def _needed(function: Callable[..., Any]) -> list[str]:
    """Return the arguments that it cannot do without."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]


def _made(file: HypermodelFile, chosen: Any) -> Any:  # noqa: ANN401
    """Return a KerasTuner HyperModel of what was chosen."""
    if isinstance(chosen, keras_tuner.HyperModel):
        return chosen
    if inspect.isclass(chosen):
        if not issubclass(chosen, keras_tuner.HyperModel):
            raise SpaceError(f"{file.called}: {chosen.__name__} is no HyperModel", hint="name another one")
        if needed := _needed(chosen):
            raise SpaceError(
                f"{file.called}: {chosen.__name__} needs {', '.join(needed)}",
                hint=f"make one in the file: hypermodel = {chosen.__name__}(…)",
            )
        with _Lines(file, "it cannot be made"):
            return chosen()
    if not callable(chosen):
        raise SpaceError(f"{file.called}: it is neither a function nor a HyperModel", hint="name another one")
    function = keras_tuner.HyperModel()
    function.build = chosen
    return function
