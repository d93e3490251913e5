"""A training on disk after every epoch: weights, optimizer slots and curve, so that it goes on exactly where it was.

What else an epoch depends on (order, augmentation, dropout, learning rates) derives from (seed, epoch) and needs no
file. Two epochs are kept: when the newer file is damaged, the older one is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.records import EpochResult
from tuner.runs import draft_of

MAGIC = b"tuner checkpoint 1\n"
DIGEST_BYTES = 32
KEPT_EPOCHS = 2


class Damaged(Exception):  # noqa: N818  # reads better where it is caught
    """A file is not a checkpoint of ours, not whole, or not of this training."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training in a folder of its own."""

    folder: Path
    key: str
    """What makes the training what it is; files of another one are not taken up."""

    def save(self, network: Any, slots: Sequence[Any], curve: Sequence[EpochResult]) -> None:  # noqa: ANN401
        """Write the state after ``curve``'s last epoch, all or nothing. Raises OSError when the disk is full."""
        rows = [dataclasses.asdict(result) for result in curve]
        arrays = {f"weight_{k}": value for k, value in enumerate(network.get_weights())}
        arrays |= {f"slot_{k}": np.asarray(slot) for k, slot in enumerate(slots)}
        payload = io.BytesIO()
        np.savez(payload, about=np.array(json.dumps({"key": self.key, "curve": rows})), **arrays)
        body = payload.getbuffer()
        with draft_of(self.folder / f"epoch-{len(curve):04d}.ckpt") as draft, draft.open("wb") as file:
            file.write(MAGIC)
            file.write(_digest(body))
            file.write(body)
        for old in _files(self.folder)[KEPT_EPOCHS:]:
            old.unlink(missing_ok=True)

    def load(self, network: Any, slots: Sequence[Any]) -> list[EpochResult]:  # noqa: ANN401
        """Put the newest whole state into ``network`` and ``slots`` (a road's) and return its curve, or []."""
        for path in _files(self.folder):
            try:
                curve, weights, values = read_checkpoint(path, self.key)
                _check_shapes(weights, network.get_weights())
                _check_shapes(values, slots)
            except Damaged as problem:
                with contextlib.suppress(OSError):  # the disk that the log is on may be full
                    print(f"{path.name} is left out: {problem}", flush=True)  # noqa: T201  # into the worker's log
                path.unlink(missing_ok=True)  # or its number would keep the epochs to come from being kept
                continue
            network.set_weights(weights)
            for slot, value in zip(slots, values, strict=True):
                slot.assign(value)
            return curve
        return []


def epochs_kept(folder: Path) -> int:
    """Return the last epoch that a checkpoint in ``folder`` is of, by its name; 0 without one."""
    return int(files[0].stem.removeprefix("epoch-")) if (files := _files(folder)) else 0


def read_checkpoint(
    path: Path, key: str | None = None
) -> tuple[list[EpochResult], list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Return the curve, the weights and the slots in ``path``. Raises Damaged.

    ``key`` must be the training's own; None takes any.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Damaged(str(error)) from None
    head = len(MAGIC) + DIGEST_BYTES
    body = memoryview(raw)[head:]
    if not raw.startswith(MAGIC) or raw[len(MAGIC) : head] != _digest(body):
        raise Damaged("not whole")
    with np.load(io.BytesIO(body), allow_pickle=False) as saved:
        about = json.loads(str(saved["about"]))
        if key is not None and about["key"] != key:
            raise Damaged("of another training")
        counts = {kind: sum(name.startswith(kind) for name in saved.files) for kind in ("weight_", "slot_")}
        weights, slots = ([saved[f"{kind}{k}"] for k in range(count)] for kind, count in counts.items())
    return [EpochResult(**row) for row in about["curve"]], weights, slots


def newest_weights(folder: Path) -> list[npt.NDArray[Any]]:
    """Return the weights in the newest whole checkpoint of ``folder``. Raises Damaged when there is none."""
    for path in _files(folder):
        with contextlib.suppress(Damaged):
            return read_checkpoint(path)[1]
    raise Damaged(f"{folder}: no whole checkpoint")


def _files(folder: Path) -> list[Path]:
    """Return the checkpoints, newest first."""
    return sorted(folder.glob("epoch-*.ckpt"), reverse=True)


def _check_shapes(found: Sequence[npt.NDArray[Any]], wanted: Iterable[Any]) -> None:
    if [value.shape for value in found] != [tuple(value.shape) for value in wanted]:
        raise Damaged("of another network")


def _digest(body: memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()
