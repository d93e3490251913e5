"""What a search is asked to do: read, checked, and claimed for this process alone, before anything is started."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.data.sources import named
from tuner.errors import StudyError, UsageError
from tuner.models.baselines import nearest_entries
from tuner.records import Value
from tuner.runs import Outputs, auto_workers, make_writable, remove_unused
from tuner.search.earlier import starting_with_study
from tuner.search.samplers import make_sampler
from tuner.search.storage import PatientStorage, alone, has_studies, open_storage
from tuner.search.study import StudyFacts, begun_in_vain, free_name, half_made_of, latest_study, load_study, study_names
from tuner.space.conditions import decided
from tuner.space.reader import SpaceFile, parse_space, read_space
from tuner.space.settings import SearchSettings
from tuner.training.configuration import check_space, family_problems

DEFAULT_SPACE = "cnn"
BASELINES = "baselines"
BINDING = ("epochs", "folds", "train_images", "seed", "sampler", "deterministic", "metric")
"""Settings that make a study's trials what they are: a resumed search cannot change them."""


@dataclass(frozen=True)
class Request:
    """What the user asks of a search; None leaves a setting to the space, or to the study that is resumed."""

    space: str | None = None
    study: str | None = None
    data: str | None = None
    out: str = "results"
    storage: str | None = field(default=None, repr=False)
    """May hold a password."""
    resume: bool = False
    refit: bool = True
    command: str | None = None
    """What can be typed to ask the same, which the study remembers; None is what was typed."""
    changes: tuple[str, ...] = ()
    """``--set`` in the order given."""
    settings: dict[str, Value] = field(default_factory=dict)
    """Search settings from options of their own, e.g. ``{"trials": 20}``."""
    start_with: str | None = None
    """What a new study tries first: ``baselines``, the points nearest to the published networks, or the best of a study
    of that name."""


@dataclass(frozen=True)
class Opened:
    """A request, read and checked, before anything was started."""

    outputs: Outputs
    name: str
    space_file: SpaceFile
    settings: SearchSettings
    data: str | None
    resumed: bool


@contextlib.contextmanager
def claimed(request: Request) -> Iterator[tuple[Opened, Path, PatientStorage]]:
    """Open a request under its study's locks, with its run folder and the storage that the locks let write.

    Of two searches that pick one free name, the later takes the next. A folder in which nothing is left goes again.
    """
    taken: list[str] = []
    with contextlib.ExitStack() as afterwards, contextlib.ExitStack() as locks:
        while True:
            opened = _open(request, taken)
            folder = opened.outputs.run_folder(opened.name)
            make_writable(folder)
            afterwards.callback(remove_unused, folder)
            try:
                storage = locks.enter_context(alone(opened.outputs, opened.name))
                break
            except StudyError:
                if request.study or request.resume:
                    raise
                taken.append(opened.name)
        yield opened, folder, storage


def check_name(name: str) -> None:
    """Raise UsageError when a study cannot be called so: its name is a folder's, too."""
    if not re.fullmatch(r"[\w.,+=@ -]*\w[\w.,+=@ -]*", name):
        raise UsageError(f"--study {name}: a name has letters, digits, spaces and .,+=@-_ only")


def _open(request: Request, taken: Sequence[str]) -> Opened:
    """Read and check everything that needs no data and no worker."""
    outputs = Outputs.of(request.out, request.storage)
    if request.study is not None:
        check_name(request.study)
    if not request.resume:
        return _open_new(request, outputs, taken)
    begun = _begun_in_vain(request, outputs) if request.space else ""
    if begun is None:
        return _open_new(request, outputs, taken)
    if begun:
        return _open_new(dataclasses.replace(request, study=begun), outputs, taken)
    return _reopen(request, outputs)


def _begun_in_vain(request: Request, outputs: Outputs) -> str | None:
    """Return the study that a search died over before it was made, "" when there is one to resume, None for neither.

    What was begun and not made is resumed by beginning it.
    """
    if not has_studies(outputs):
        return None
    storage = open_storage(outputs, create=False)
    if request.study is not None:
        return "" if _exists(storage, request.study) else None
    return begun_in_vain(storage, read_checked(request.space or DEFAULT_SPACE, request.changes).space.name)


def _exists(storage: PatientStorage, name: str) -> bool:
    return name in study_names(storage) and half_made_of(storage, name) is None


def planned(request: Request) -> tuple[SpaceFile, SearchSettings]:
    """Return the space and the settings of a search that is not begun. Raises SpaceError."""
    space_file = _space_of(request)
    return space_file, space_file.settings.merged(request.settings)


def _open_new(request: Request, outputs: Outputs, taken: Sequence[str]) -> Opened:
    space_file = _space_of(request)
    storage = open_storage(outputs, create=True)
    name = request.study or free_name(storage, outputs, space_file.space.name, taken)
    if _exists(storage, name):
        raise StudyError(f"study '{name}' exists", hint="--resume goes on with it; --study NAME makes another")
    settings = space_file.settings.merged(request.settings)
    if settings.deterministic and settings.workers == "auto":  # the number is part of what the seed decides
        settings = dataclasses.replace(settings, workers=auto_workers())
    make_sampler(settings, space_file.space)  # a grid over an infinite space is refused here
    return Opened(outputs, name, space_file, settings, named(request.data), resumed=False)


def _reopen(request: Request, outputs: Outputs) -> Opened:
    """Take up the study that is named, or the latest one; its own space, unless one is given to compare with it."""
    if request.start_with and not request.space:
        raise UsageError("--start-with is for a new study: this one goes on with what it started with")
    space_file = _space_of(request) if request.space else None
    storage = open_storage(outputs, create=False)
    name = request.study or latest_study(storage, space_file.space.name if space_file else None)
    _, facts = load_study(storage, name)
    if space_file is None:
        space_file = parse_space(facts.space_name, facts.space_text, request.changes, source=f"study '{name}'")
        check_space(space_file.space)
    settings = _resumed_settings(name, facts, space_file, request)
    data = facts.data_folder if request.data is None else named(request.data)
    return Opened(outputs, name, space_file, settings, data, resumed=True)


def _space_of(request: Request) -> SpaceFile:
    """Return the space and the first entries that are asked for. Raises SpaceError, StudyError, UsageError."""
    space_file = read_checked(request.space or DEFAULT_SPACE, request.changes)
    if request.start_with is None:
        return space_file
    if request.start_with != BASELINES:
        storage = open_storage(Outputs.of(request.out, request.storage), create=False)
        return starting_with_study(space_file, storage, request.start_with)
    if space_file.space.hypermodel:
        raise UsageError(
            "--start-with baselines: they are points of a 'cnn' space, and a hypermodel starts with its own"
        )
    entries = nearest_entries(space_file.space)
    return space_file.starting_with(entries, "Starts with the points nearest to the published networks.")


def read_checked(source: str, changes: tuple[str, ...] = ()) -> SpaceFile:
    """Return a space that its family can build. Raises SpaceError."""
    return read_space(source, changes, family_problems)


def _same_trials(facts: StudyFacts, space_file: SpaceFile) -> bool:
    """Tell whether a study's space and ``space_file`` differ in what is never there alone, as versions of tuner do."""
    if facts.hypermodel or space_file.space.hypermodel:
        return False
    then, now = parse_space(facts.space_name, facts.space_text).space, space_file.space
    return (then.model, then.limits, then.start_with, decided(then.parameters)) == (
        now.model, now.limits, now.start_with, decided(now.parameters),
    )  # fmt: skip


def _resumed_settings(name: str, facts: StudyFacts, space_file: SpaceFile, request: Request) -> SearchSettings:
    """Return the study's own settings with what the user says now over them, where that can change."""
    now, then = space_file.space.hypermodel, facts.hypermodel
    if facts.space_hash != space_file.hash and now and then and (now.text, now.name) != (then.text, then.name):
        raise StudyError(
            f"study '{name}' was made with another {now.called}, before it was changed",
            hint="start a new study with --study NAME, or leave the file out to resume with the old one",
        )
    for key in ("pixels", "labels", "outputs", "batch_size") if now and then else ():
        if getattr(now, key) != getattr(then, key):
            raise StudyError(
                f"study '{name}' was searched with hypermodel.{key} = {getattr(then, key)}, not {getattr(now, key)}",
                hint="its trials could not be compared; start a new study with --study NAME",
            )
    if facts.space_hash != space_file.hash and not _same_trials(facts, space_file):
        raise StudyError(
            f"study '{name}' was made with another space ({facts.space_hash}, now {space_file.hash})",
            hint="start a new study with --study NAME, or leave SPACE and --set out to resume with the old one",
        )
    said: dict[str, Value] = {key: value for key, value in request.settings.items() if value is not None}
    set_now = {change.partition("=")[0].strip().removeprefix("search.") for change in request.changes}
    said |= {key: getattr(space_file.settings, key) for key in set_now if hasattr(space_file.settings, key)}
    if said.get("workers") == "auto" and facts.settings.deterministic:
        del said["workers"]  # the number that it was then
    for key in (*BINDING, *(["workers"] if facts.settings.deterministic else [])):
        if key in said and said[key] != getattr(facts.settings, key):
            raise StudyError(
                f"study '{name}' was searched with {key} = {getattr(facts.settings, key)}, not {said[key]}",
                hint="its trials could not be compared; start a new study with --study NAME",
            )
    settings = facts.settings.merged(said)
    # Who names one end of the search now does not mean the other one of then.
    if "time" in said and "trials" not in said:
        settings = dataclasses.replace(settings, trials=None)
    if "trials" in said and "time" not in said:
        settings = dataclasses.replace(settings, time=None)
    return settings
