"""From a TOML file to a :class:`Space`: parse at the door, so that nobody downstream sees a table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os.path
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from tuner.errors import SpaceError
from tuner.records import Values
from tuner.space.contents import Family, read_contents
from tuner.space.draft import Draft, drafted, load
from tuner.space.hypermodel_file import HYPERMODEL, HypermodelFile, is_hypermodel, read_hypermodel
from tuner.space.kinds import Table
from tuner.space.library import builtin_text
from tuner.space.overlay import change_of, fitting, gone, overlay, settled
from tuner.space.parameters import Parameter, Space
from tuner.space.problems import Problems, text_at
from tuner.space.settings import SearchSettings

SCHEMA_LINE = "#:schema "
"""How the first line of a space file begins that names its schema, for editors."""
MOST_EXTENDED = 50
"""Files between the first and the last of a chain that extend another."""


@dataclass(frozen=True)
class SpaceFile:
    """A space file as read: the space, its own search defaults, and the text that made it, changes included."""

    space: Space
    settings: SearchSettings
    text: str
    """TOML of the space as searched, which depends on no other file; written into the run folder as ``space.toml``."""
    dropped: tuple[str, ...] = ()
    """What ``extends`` and ``--set`` left no room for, in sentences."""

    @property
    def hash(self) -> str:
        """Return a digest of what is tried (parameters, limits, model, first entries), not of comments or settings."""
        space = self.space
        parameters = {
            name: [type(p).__name__, dataclasses.asdict(p)]
            for name, p in space.parameters.items()
            if not space.hypermodel  # which has those that were seen
        }
        facts: list[object] = [space.model, parameters, dataclasses.asdict(space.limits), space.start_with]
        if space.hypermodel:
            facts.append(space.hypermodel.digest)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def starting_with(self, entries: Iterable[Values], why: str) -> SpaceFile:
        """Return this space with ``entries`` tried before its own; ``why`` is a comment in its text."""
        chosen: list[Values] = []
        for entry in (*entries, *self.space.start_with):
            if entry not in chosen:
                chosen.append(entry)
        table = {**tomllib.loads(self.text), "start_with": chosen}
        text = f"# {why}\n" + tomli_w.dumps(table, multiline_strings=bool(self.space.hypermodel))
        return dataclasses.replace(self, space=dataclasses.replace(self.space, start_with=tuple(chosen)), text=text)

    def with_parameters(self, parameters: Mapping[str, Parameter]) -> SpaceFile:
        """Return this space with the ``parameters`` that its hypermodel was seen to ask for."""
        return dataclasses.replace(self, space=dataclasses.replace(self.space, parameters=dict(parameters)))

    def as_document(self) -> Table:
        """Return everything as JSON can hold it."""
        space = self.space
        return {
            "name": space.name,
            "description": space.description,
            "model": space.model,
            "hash": self.hash,
            "parameters": {
                name: {"type": type(parameter).__name__.lower(), **dataclasses.asdict(parameter)}
                for name, parameter in space.parameters.items()
            },
            "limits": dataclasses.asdict(space.limits),
            "start_with": list(space.start_with),
            **({HYPERMODEL: dataclasses.asdict(space.hypermodel)} if space.hypermodel else {}),
            "search": dataclasses.asdict(self.settings),
        }


def _any_family(
    _model: str, _parameters: Mapping[str, Parameter], _labels: Mapping[str, str]
) -> Iterable[tuple[str, SpaceError]]:
    """Have nothing against any parameter."""
    return ()


def read_space(source: str, changes: Iterable[str] = (), family: Family = _any_family) -> SpaceFile:
    """Read a space by name or path and put ``changes`` (``dotted.path=TOML value``) over it.

    A ``source`` with a suffix or a slash is a path, otherwise a built-in name; ``FILE.py`` and ``FILE.py:NAME`` are a
    KerasTuner hypermodel. Raises a SpaceError that says everything that is wrong, ``family``'s objections included,
    naming the file, the table and the key.
    """
    if is_hypermodel(source):
        file = read_hypermodel(source)
        name, text = Path(file.path).stem, _text_around(file)
        return _parsed(name, text, changes, _Place(source, Path(), source), family)
    place = _Place.of(source, None)
    return _parsed(Path(source).stem, place.text(), changes, place, family)


def parse_space(name: str, text: str, changes: Iterable[str] = (), source: str = "") -> SpaceFile:
    """Return the space in ``text``, with ``changes`` put over it. ``source`` is what errors call it."""
    return _parsed(name, text, changes, _Place(source or name, Path(), f"the text of {name}"), _any_family)


@dataclass(frozen=True)
class _Place:
    """Where a space is: a file, or among the built-in ones."""

    said: str
    """What errors call it."""
    folder: Path
    """What paths in it are relative to."""
    identity: str
    """Tells it from every other one."""
    path: Path | None = None

    @classmethod
    def of(cls, source: str, folder: Path | None) -> _Place:
        """Return the place that ``source`` names, relative to the ``folder`` of an extending file."""
        if "/" not in source and Path(source).suffix == "":
            return cls(source, Path(), source)
        if is_hypermodel(source):
            raise SpaceError(f"{source}: only a .toml or built-in space can be extended")
        path = Path(os.path.normpath(folder / source)) if folder else Path(source)
        if path.suffix != ".toml":
            said = f"{source}: a space file ends in .toml, a KerasTuner hypermodel in .py"
            raise SpaceError(said, hint="'tuner spaces copy cnn mine.toml' starts a space")
        return cls(str(path) if folder else source, path.parent, os.path.abspath(path), path)  # noqa: PTH100  # resolve fails on a loop of links

    def text(self) -> str:
        """Return what stands there. Raises SpaceError."""
        return builtin_text(self.said) if self.path is None else text_at(self.path, self.said)


def hypermodel_in(text: str) -> HypermodelFile | None:
    """Return the hypermodel in the text of a space that was read before, or None."""
    table = tomllib.loads(text)
    return HypermodelFile.of(table[HYPERMODEL]) if HYPERMODEL in table else None


def _text_around(file: HypermodelFile) -> str:
    """Return a space around a hypermodel: what a study keeps, and ``--set`` changes."""
    whole = {"path": file.path, "name": file.name, "text": file.text}
    about = f"The KerasTuner hypermodel {file.called}"
    return tomli_w.dumps({"description": about, "model": HYPERMODEL, HYPERMODEL: whole}, multiline_strings=True)


def _parsed(name: str, text: str, changes: Iterable[str], place: _Place, family: Family) -> SpaceFile:
    changes = list(changes)
    draft, space_file = _read(name, text, place, (), _any_family if changes else family)
    if not changes:
        return space_file
    problems, base = Problems(), dataclasses.replace(draft, start_with=None)
    made: list[Draft] = []
    names = {**base.parameters, **space_file.space.parameters}
    draft = base
    for change in changes:
        with problems.gathering():
            made.append(change_of(change, draft, names))
            draft = overlay(draft, made[-1], problems)
    left = settled(draft, base, made)
    try:
        whole, changed = _fitted(name, left, space_file.space.start_with, problems, family)
    except SpaceError as error:
        raise error.of_file(place.said) from None
    dropped = (*space_file.dropped, *gone(draft, left), *changed.dropped)
    text = _written(whole, f"Changed by --set: {', '.join(changes)}")
    return dataclasses.replace(changed, text=text, dropped=dropped)


def _read(name: str, text: str, place: _Place, chain: Sequence[_Place], family: Family) -> tuple[Draft, SpaceFile]:
    """Return a file as one draft, what it extends included, and as read. Raises SpaceError naming the file."""
    problems = Problems()
    try:
        draft = drafted(load(text), problems)
    except SpaceError as error:
        raise error.of_file(place.said) from None
    base = None if draft.extends is None else _base_of(draft.extends, place, chain)
    try:
        if base is None:
            if draft.remove:
                problems.add("remove: is for a file that extends another", hint='e.g. extends = "cnn"')
            space, settings = read_contents(name, draft, problems, family)
            return draft, SpaceFile(space, settings, _own_text(text))
        whole = overlay(dataclasses.replace(base[0], start_with=None), draft, problems)
        left = settled(whole, base[0], [draft])
        dropped = (*base[1].dropped, *gone(whole, left))
        whole, space_file = _fitted(name, left, base[1].space.start_with, problems, family)
    except SpaceError as error:
        raise error.of_file(place.said) from None
    text = _written(whole, f"{place.said}, which extends {draft.extends}, in full.")
    return whole, dataclasses.replace(space_file, text=text, dropped=(*dropped, *space_file.dropped))


def _base_of(source: str, place: _Place, chain: Sequence[_Place]) -> tuple[Draft, SpaceFile]:
    """Return what the file at ``place`` extends. Raises SpaceError, also for files that extend each other."""
    chain = (*chain, place)
    if len(chain) > MOST_EXTENDED:
        said = f"{chain[0].said}: more than {MOST_EXTENDED} files that extend one another"
        raise SpaceError(said, hint="put some of them together")
    try:
        base = _Place.of(source, place.folder)
        text = base.text()
    except SpaceError as error:
        raise error.at(f"{place.said}: extends") from None
    if any(base.identity == one.identity for one in chain):
        names = " extends ".join([*(one.said for one in chain), base.said])
        raise SpaceError(f"{names}: a circle", hint="one of them has to stand alone")
    return _read(base.said, text, base, chain, _any_family)


def _fitted(
    name: str, draft: Draft, inherited: Sequence[Values], problems: Problems, family: Family
) -> tuple[Draft, SpaceFile]:
    """Read a draft that was put together; without first entries of its own it has the inherited ones that still fit."""
    space, settings = read_contents(name, draft, problems, family)
    lost = 0
    if draft.start_with is None:
        space = dataclasses.replace(space, start_with=tuple(fitting(space, inherited)))
        lost = len(inherited) - len(space.start_with)
    said = f"{lost} inherited first {'entry' if lost == 1 else 'entries'} left out: no longer in the space"
    draft = dataclasses.replace(draft, start_with=list(space.start_with))
    return draft, SpaceFile(space, settings, "", (said,) if lost else ())


def _written(draft: Draft, why: str) -> str:
    """Return a draft as TOML, with ``why`` as a comment before it."""
    comment = "".join(letter if letter.isprintable() else " " for letter in why)
    return f"# {comment}\n{tomli_w.dumps(draft.as_table(), multiline_strings=bool(draft.hypermodel))}"


def _own_text(text: str) -> str:
    """Return a file's text without the line that names its schema: a study is not where that lies."""
    first, _, rest = text.partition("\n")
    return rest if first.startswith(SCHEMA_LINE) else text
