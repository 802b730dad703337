"""Files and folders that are either whole or not there, locks, hashes, and the newest of a kind."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from runtime.errors import HedgeError, OutputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STDOUT = Path("-")  # where JSON is asked for: standard output
_PART = ".part-"  # in the names of temporary files and folders: .NAME.part-RANDOM
_OLD = ".old-"  # in the name of a folder whose replacement is being put in its place
_OPEN = getattr(os, "O_NOFOLLOW", 0)  # a link in a folder that others write into is not ours
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_swept: set[Path] = set()  # folders that this process has cleaned
_asking = threading.Lock()


@contextmanager
def atomic_path(path: Path, first_wins: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is fsynced and renamed onto it.

    first_wins: what lies there already stays, however many processes write it at the same time.

    A crash, a full disk or Ctrl-C in between leaves the previous content of ``path`` untouched.
    What a killed process left is removed when the next one writes into the folder. A link stays
    and what it points to is replaced; a device or a pipe, as /dev/stdout is, stays and is written
    to. An OSError names ``path``.
    """
    target = path.resolve()
    device = target.exists() and not target.is_file()
    if device and target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    beside = Path(tempfile.gettempdir(), target.name) if device else target
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        if beside.parent not in _swept:
            _swept.add(beside.parent)
            sweep(beside.parent)
        with ExitStack() as stack:
            temporary = _reserved(partial(_new_file, beside), stack)
            stack.callback(temporary.unlink, missing_ok=True)
            yield temporary
            with temporary.open("rb+") as file:  # "rb" cannot be fsynced on Windows
                if device:
                    with target.open("wb", buffering=0) as sink:
                        shutil.copyfileobj(file, sink)
                    return
                temporary.chmod(0o666 & ~_umask())
                os.fsync(file.fileno())
            if not first_wins or not _linked(temporary, target):
                temporary.replace(target)
    except OSError as error:  # a write's has no name, the temporary file's one that nobody knows
        error.filename = str(path)
        raise


def _linked(temporary: Path, target: Path) -> bool:
    """Link it into its place unless something is there; False on a disk without links, as exFAT."""
    with suppress(FileExistsError):
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return target.exists()
    return True


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside ``beside``; at the end it is gone or has been moved.

    What killed processes left there is removed first.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    sweep(beside.parent)
    with ExitStack() as stack:
        folder = _reserved(partial(_new_folder, beside), stack)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o777 & ~_umask())
        yield folder


def replace_folder(folder: Path, target: Path) -> None:
    """Move ``folder`` to ``target``; what stands there goes only when the new one is in its place.

    Killed between the two renames, the old folder is put back by the next ``sweep``.
    """
    old = target.with_name(f".{target.name}{_OLD}{os.getpid()}")
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of processes that are gone from ``folder``."""
    if sys.platform == "win32":
        return  # where nobody can tell what is still in use
    for path in folder.glob(f".*{_PART}*"):
        with suppress(OSError), _held(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in folder.glob(f".*{_OLD}*"):
        target = path.with_name(path.name[1:].rpartition(_OLD)[0])
        with suppress(OSError, OutputError), locked(target):
            shutil.rmtree(path) if target.exists() else path.rename(target)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold ``target`` for one process; OutputError where another one is writing it.

    The system frees the lock of a process that dies, however it dies.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    with ExitStack() as stack:
        while True:
            lock.touch()
            try:
                stack.enter_context(_held(lock))
            except FileNotFoundError:  # its holder has just finished
                continue
            except BlockingIOError:
                raise OutputError(
                    f"{target}: another process is writing it; wait for it, or choose another name"
                ) from None
            except OSError:  # a file system without locks
                pass
            break
        stack.callback(lock.unlink, missing_ok=True)
        yield


def _reserved(make: Callable[[], str], stack: ExitStack) -> Path:
    """A new path that the ``sweep`` of no other process removes while ``stack`` is open."""
    while True:
        path = Path(make())
        try:
            stack.enter_context(_held(path))
        except (BlockingIOError, FileNotFoundError):  # swept before it was locked
            continue
        except OSError:  # a file system without locks
            pass
        return path


def _new_file(path: Path) -> str:
    prefix = f".{path.name}{_PART}"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    return name


def _new_folder(path: Path) -> str:
    return tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}{_PART}")


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Lock an existing file or folder; BlockingIOError where another process holds it.

    FileNotFoundError where it is another file by the time that it is locked.
    """
    if sys.platform == "win32" and path.suffix != ".lock":
        yield  # a locked file could be neither written nor moved there
        return
    handle = os.open(path, _OPEN | (os.O_RDWR if path.is_file() else os.O_RDONLY))
    try:
        _lock(handle)
        if not os.path.samestat(os.fstat(handle), path.lstat()):
            raise FileNotFoundError(path)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            raise BlockingIOError from None
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_bytes(path: Path, data: bytes, first_wins: bool = False) -> None:
    """Write ``data`` to ``path`` as ``atomic_path`` does, making its folder where needed."""
    with atomic_path(path, first_wins) as temporary:
        temporary.write_bytes(data)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    """Hex SHA-256 of bytes in memory."""
    return hashlib.sha256(data).hexdigest()


def asks_stdout(options: object) -> bool:
    """Whether ``--json -`` or ``--metrics -`` is among a command's ``options``.

    HedgeError for another path of "-", which would be a file of that name.
    """
    names = [name for name, value in vars(options).items() if value == STDOUT]
    for name in names:
        if name not in ("json", "metrics"):
            raise HedgeError(
                f"--{name.replace('_', '-')} -: is no file; give a path (only --json and --metrics "
                "take - for standard output)"
            )
    return bool(names)


def printable(name: str) -> str:
    """``name`` for terminals and JSON: bytes that are no text, and control codes, as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def composed(name: str) -> str:
    """The form (NFC) that names of one spelling share; macOS and zip files of it write another."""
    return unicodedata.normalize("NFC", name)


def existing(path: Path) -> Path:
    """``path``, or the file there whose name is the same in the other Unicode form."""
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((p for p in (path, *forms) if p.is_file()), path)


def newest(root: Path, marker: str, hint: str) -> Path:
    """The folder under ``root`` whose file ``marker`` is newest; ``hint`` says how to make one.

    Hidden folders are work in progress and never taken.
    """
    shown = (path for path in root.glob(f"*/{marker}") if not path.parent.name.startswith("."))
    found = sorted(shown, key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise HedgeError(f"{root}: no {marker} in any folder here; {hint}")
    return found[-1].parent


def named(folder: Path) -> Path:
    """``folder`` by its own name, which "." and ".." do not tell."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def user_cache() -> Path:
    """$HEDGE_CACHE, else hedge/ in $XDG_CACHE_HOME, else in ~/.cache: what can be made again.

    RuntimeError for a user without a home.
    """
    if named := os.environ.get("HEDGE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hedge"


def _umask() -> int:
    with _asking:  # it is set to be read: two threads would leave the other's zero
        mask = os.umask(0)
        os.umask(mask)
    return mask


def safe_json(value: object) -> bytes:
    """``value`` as JSON in which no name can be taken for HTML."""
    return msgspec.json.encode(value).replace(b"<", b"\\u003c")


def save_sealed(path: Path, data: bytes, first_wins: bool = False) -> None:
    """Write bytes that only ``read_sealed`` reads, their sha256 before them."""
    write_bytes(path, sha256_of(data).encode() + data, first_wins)


def read_sealed(path: Path) -> bytes:
    """What ``save_sealed`` wrote; nothing where that is missing or damaged."""
    content = path.read_bytes() if path.exists() else b""
    digest, data = content[:64], content[64:]
    return data if sha256_of(data).encode() == digest else b""
