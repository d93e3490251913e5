"""Where a run's files live, how they are written (all or nothing), and the manifest that says how it was made."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import functools
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import EnvironmentProblem, StudyError, TunerError

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
AGAIN = "the same command goes on where it was"
PACKAGES = ("tuner", "keras", "tensorflow", "optuna", "numpy")
PACKAGES_OF = {"jax": ("jax", "jaxlib"), "torch": ("torch",)}
"""What beside these a result depends on, by Keras's backend."""
DAMAGED = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, SyntaxError, RuntimeError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
"""What reading a file of ours raises (JSON, NumPy's .npz) that is missing, cut or altered."""
IDENTITY = ".study"
"""The file in a run folder that says of which study it is, whatever the study and the folder are called by now."""
SECRETS = "password|sslpassword|scram_client_key|scram_server_key|oauth_client_secret"
"""What libpq takes in a URL's query that is nobody's business."""
WORKER_BYTES = 1 << 30
"""Of memory, for a worker: its libraries, the images, and the activations of a batch."""


@dataclass(frozen=True)
class Outputs:
    """The folder of all results, and the storage URL of the studies."""

    folder: Path
    storage: str = field(repr=False)
    """May hold a password."""

    @classmethod
    def of(cls, folder: str, storage: str | None) -> Outputs:
        """Return the outputs in ``folder``; ``storage`` is an SQLAlchemy URL or a file, by default in the folder."""
        if storage is None:
            storage = f"{folder}/studies.db"
        if "://" not in storage:
            storage = f"sqlite:///{storage}"
        return cls(Path(folder), storage)

    def run_folder(self, study: str) -> Path:
        """Return where the run of ``study`` leaves its files."""
        return self.folder / "runs" / study

    def has_run(self, study: str, identity: str) -> bool:
        """Tell whether the run of ``study`` is on this machine: a database may be seen from others.

        Its folder alone does not say so: a search that was refused, or ended before its study, makes one as well, and
        where the database is shared the folder may be of a study of that name which somebody has deleted elsewhere.
        """
        return is_run_of(identity, self.run_folder(study))

    @property
    def database(self) -> Path | None:
        """Return the SQLite file, or None for a server."""
        prefix = "sqlite:///"
        return Path(self.storage.removeprefix(prefix)) if self.storage.startswith(prefix) else None


def is_run_of(identity: str, folder: Path) -> bool:
    """Tell whether ``folder`` is the run folder of the study with this identity; earlier versions kept none."""
    return kept_identity(folder) in (None, identity) and (folder / "space.toml").exists()


def kept_identity(folder: Path) -> str | None:
    """Return the identity of the study whose run folder this is, None where none is kept."""
    with contextlib.suppress(OSError):
        return (folder / IDENTITY).read_text("utf-8").strip()
    return None


def make_writable(folder: Path) -> None:
    """Create ``folder`` and prove that it can be written. Raises EnvironmentProblem."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot write there: {error.strerror}", hint="choose another folder with --out"
        ) from None


@contextlib.contextmanager
def disk_trouble_in_one_line(folder: Path, then: str) -> Iterator[None]:
    """Turn a full or read-only disk, met while ``folder`` is written, into an EnvironmentProblem.

    ``then`` says what the user can do when there is room again.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        raise EnvironmentProblem(
            f"{error.filename or folder}: cannot be written: {error.strerror}",
            hint=f"nothing that was written is lost: make room, then {then}",
        ) from None


def resume_command(outputs: Outputs, study: str, *more: str) -> str:
    """Return what to type to go on with ``study``, from the folder where this was typed."""
    return typed(outputs, "search", "--resume", "--study", study, more=more)


def typed(outputs: Outputs, *words: str, more: Sequence[str] = ()) -> str:
    """Return a command on the same studies, as it is typed in the folder where this one was, without passwords."""
    where = [] if str(outputs.folder) == "results" else ["--out", str(outputs.folder)]
    if outputs.storage != Outputs.of(str(outputs.folder), os.environ.get("TUNER_STORAGE") or None).storage:
        where += ["--storage", _to_be_typed(outputs.storage)]
    return shlex.join(["tuner", *words, *where, *more])


def _to_be_typed(storage: str) -> str:
    """Return a storage URL from which passwords are left out: stars would be taken for one.

    >>> _to_be_typed("postgresql+psycopg://ann:a b@c/d@host/db?sslpassword=x&connect_timeout=3&password=y")
    'postgresql+psycopg://ann@host/db?connect_timeout=3'
    >>> _to_be_typed("postgresql+psycopg://ann:secret@host/db?application_name=night@host")
    'postgresql+psycopg://ann@host/db?application_name=night@host'
    """
    address, mark, query = storage.partition("?")
    if "@" not in address or any("=" not in word for word in query.split("&")):  # that mark is the password's
        address, mark, query = re.sub(r"(://[^:/\s]*):.*@", r"\1@", storage, flags=re.DOTALL).partition("?")
    address = re.sub(r"(://[^:/\s]*):.*@", r"\1@", address, flags=re.DOTALL)
    kept = [word for word in query.split("&") if not re.match(f"(?:{SECRETS})=", word)]
    return address + (mark + "&".join(kept) if any(kept) else "")


@dataclass
class Interruption:
    """A wish to end the run, set by a signal and looked at where the run can stop without losing anything."""

    asked: bool = False
    heard: bool = False
    """Somebody looks at ``asked``: until then a signal ends the run at once, as there is nothing to lose."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts a first signal only asks: somebody looks."""
        self.heard = True
        try:
            yield
        finally:
            self.heard = False


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Yield a draft beside ``path`` that replaces it when the block ends well: all of a file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A process that was given up may still be writing its own: never two into one.
    draft = path.with_name(f".{path.stem}.{os.getpid()}.draft{path.suffix}")
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with draft_of(path) as draft:
        draft.write_text(text, "utf-8")


def write_json(path: Path, document: object) -> None:
    """Write ``document`` as indented JSON, atomically."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table, atomically; None is an empty cell."""
    write_text(path, as_table(header, rows))


def as_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a CSV table; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue()


def sweep_drafts(folder: Path) -> None:
    """Remove the drafts that processes left in ``folder`` which were killed while they wrote."""
    for draft in folder.rglob(".*.draft*"):
        written_by = re.search(r"\.(\d+)\.draft", draft.name)
        if written_by is None or not lives(int(written_by[1])):
            draft.unlink(missing_ok=True)


def lives(pid: int) -> bool:
    """Tell whether another process of this number runs here."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in ``folder``, in which a search may be writing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a checkpoint that has gone meanwhile
                total += (Path(place) / name).stat().st_size
    return total


def backend() -> str:
    """Return the name of Keras's backend, found as Keras finds it, which loads one to tell."""
    named = os.environ.get("KERAS_BACKEND")
    with contextlib.suppress(*DAMAGED):
        home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")  # noqa: S108  # Keras's own choice
        file = Path(os.environ.get("KERAS_HOME", home / ".keras")).expanduser() / "keras.json"
        named = named or str(json.loads(file.read_text("utf-8"))["backend"])
    return named or "tensorflow"


def versions(of_backend: str | None = None) -> dict[str, str]:
    """Return the versions that a result depends on, with this backend or with the one that there is."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *PACKAGES_OF.get(of_backend or backend(), ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def machine() -> dict[str, object]:
    """Return what the timings depend on; no host name."""
    return {"system": platform.system(), "processor": _processor(), "cores": cores()}


def cores() -> int:
    """Return the processor cores that this process may use, by affinity and by a container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = (int(word) for word in Path("/sys/fs/cgroup/cpu.max").read_text("utf-8").split())
        count = min(count, max(1, quota // period))
    return count


@functools.cache  # the workers that were started take of the memory that was free
def auto_workers() -> int:
    """Return how many worker processes ``--workers auto`` is: one a core, each with one thread, as far as memory goes.

    Measured to give the most epochs a minute (benchmarks/workers.py, results/LOG.md): two processes of one thread do
    more than one process of two, and with one thread the bits do not depend on the machine.
    """
    return max(1, min(cores(), _free_memory() // WORKER_BYTES))


def _free_memory() -> int:
    """Return the bytes that new processes may take, by what is available and by a container's limit."""
    free = [sys.maxsize]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free.append(next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("utf-8")) for name in ("max", "current"))
        free.append(limit - used)
    return min(free)


def commit() -> str | None:
    """Return the commit of the source tree that runs, or None for an installed package."""
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # Only a tree that tracks this very file: site-packages may lie inside somebody else's repository.
        _output([*git, "ls-files", "--error-unmatch", str(here)])
        return _output([*git, "describe", "--always", "--dirty", "--abbrev=12"]) or None
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """Return the command as it can be typed again, without the path of the program and without passwords."""
    text = shlex.join(["tuner", *map(without_password, sys.argv[1:])])
    return os.fsencode(text).decode("utf-8", "replace")  # bytes that are no UTF-8 cannot be written


def without_password(text: str) -> str:
    """Return ``text``, one URL or one argument, with every password in it replaced by stars.

    A password may hold anything, and a user's name an @ (Azure's): it ends at the last @. libpq takes one in the query,
    too.

    >>> without_password("postgresql+psycopg://ann@corp:secret@host/db")
    'postgresql+psycopg://ann@corp:***@host/db'
    >>> without_password("postgresql+psycopg://ann:a b@c/d@host/db?sslpassword=x&connect_timeout=3")
    'postgresql+psycopg://ann:***@host/db?sslpassword=***&connect_timeout=3'
    """
    text = re.sub(r"(://[^:/\s]*):.*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(rf"([?&](?:{SECRETS})=)[^&]*", r"\1***", text)


def lock_beside(database: Path, study: str | None = None) -> Path:
    """Return the lock file of an SQLite file, or of one study in it; a link to the file has the file's."""
    real = database.resolve()
    return real.with_name(f".{real.name}.{study}.lock" if study else f".{real.name}.lock")


@contextlib.contextmanager
def only_one(folder: Path, database: Path | None, busy: str | None = None) -> Iterator[None]:
    """Hold the locks of a run folder and, for SQLite, of its study, which the kernel takes back when the process dies.

    ``busy`` says what the process that has them is doing. The files stay, for a lock on a removed file keeps nobody
    out. Raises StudyError when another process has one of the locks, EnvironmentProblem when they cannot be written.
    """
    with contextlib.ExitStack() as held:
        for path in (folder / ".lock", *([lock_beside(database, folder.name)] if database else [])):
            try:
                lock = held.enter_context(path.open("a+"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip() or "another process"
                busy = busy or f"study '{folder.name}' is being searched"
                raise StudyError(f"{busy} by {owner}", hint="wait for it, or end it") from None
            except OSError as error:
                raise EnvironmentProblem(
                    f"{path}: cannot lock it: {error.strerror}", hint="choose another folder with --out or --storage"
                ) from None
            with contextlib.suppress(OSError):  # a full disk: the lock holds without its text
                os.ftruncate(lock.fileno(), 0)
                os.write(lock.fileno(), f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
        yield


def remove_unused(folder: Path) -> None:
    """Remove a run folder in which a search has left nothing but its lock, unless somebody has that now."""
    with contextlib.suppress(TunerError, OSError), only_one(folder, None):
        if all(path.name == ".lock" for path in folder.iterdir()):
            shutil.rmtree(folder)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603  # git, fixed words
