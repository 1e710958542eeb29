"""Where a store is: a folder, or a URL that fsspec knows. Keys and bytes, whole or not there, and a lock."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any
from uuid import uuid4

import fsspec
import portalocker
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer
from zarr.storage import FsspecStore, LocalStore

from servegrid.errors import InputError, MachineError

log = logging.getLogger(__name__)

LOCK = ".lock"
_PARTIAL = ".partial"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?=://)")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # protocol -> extra of this package
_PATIENCE = 0.05  # [s] between two attempts to get a lock


class BusyError(MachineError):
    """Somebody else is writing."""


class Place(ABC):
    """Keys (such as "itl/c/0/1") with bytes."""

    @abstractmethod
    def __str__(self) -> str:
        """As the user wrote it."""

    @abstractmethod
    def check(self) -> None:
        """Raise InputError where no store can be, MachineError where this machine may not write."""

    @abstractmethod
    def zarr_store(self) -> ZarrStore:
        """The same for zarr; what is written through it is whole or not there, too."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The bytes of a key, None where there is none."""

    @abstractmethod
    def write(self, key: str, content: bytes) -> None:
        """Set the bytes of a key, at once."""

    @abstractmethod
    def keys(self, below: str = "") -> Iterator[str]:
        """The keys of a folder and its folders, in no order; unfinished files and the lock are left out."""

    @abstractmethod
    def remove(self, keys: Iterable[str]) -> None:
        """Take keys away; those that are not there stay so."""

    @abstractmethod
    def clear(self) -> None:
        """Take everything away, the root's metadata last: until then the store is known as one."""

    @abstractmethod
    def tidy(self) -> None:
        """Take away what runs have left beside the keys, the lock included; nobody else may be writing."""

    @abstractmethod
    def size(self) -> int:
        """All that is kept [byte]."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes see it, too."""
        return True

    def free(self) -> int | None:
        """The room that is left [byte], None where nobody knows."""
        return None

    @contextmanager
    def locked(self, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
        """Nobody else writes meanwhile; `shared`: others who share do. MachineError after `patience` [s]."""
        yield

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Turn every fault of what lies underneath into OSError."""
        with nullcontext():
            yield


def place_of(out: str | Path) -> Place:
    """The folder, or the place behind the URL, that somebody named."""
    text = str(out)
    scheme = _URL.match(text)
    if scheme is not None and scheme[0] not in ("file", "local"):
        _check_url(text)
        return Bucket(text)
    word, colon, _ = text.partition(":")
    if scheme is None and colon and word in fsspec.available_protocols():
        raise InputError(f"{text}: got half a URL, expected a folder, or a URL such as s3://bucket/name.zarr")
    return Folder(text, Path(text.split("://", 1)[-1]) if scheme else Path(out))


def _check_url(url: str) -> None:
    """Raise InputError unless the URL can be the place of a store."""
    try:
        fs, root = fsspec.url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(url.split("://", maxsplit=1)[0])
        how = f"install what it needs with: pip install 'servegrid[{extra}]'" if extra else str(error)
        raise InputError(f"{url}: {how}") from None
    except ValueError as error:
        raise InputError(
            f"{url}: {error}; expected a folder, or a URL such as s3://bucket/name.zarr or gs://bucket/name.zarr"
        ) from None
    if not str(root).strip("/"):
        raise InputError(f"{url}: names no place, expected a URL such as s3://bucket/name.zarr")
    if "http" in fs.protocol:
        raise InputError(
            f"{url}: cannot be written over http, expected a folder or a URL such as s3://bucket/name.zarr"
        )


@dataclass(frozen=True)
class Folder(Place):
    """A folder of a file system; a link is followed, not replaced."""

    name: str
    given: Path

    def __str__(self) -> str:
        return self.name

    @cached_property
    def path(self) -> Path:
        """The folder itself."""
        return self.given.resolve()

    def check(self) -> None:
        if self.path in (Path.cwd(), *Path.cwd().parents):
            raise InputError(f"{self}: is the current folder or holds it, expected the name of a store to make")
        existing = next(folder for folder in (self.path, *self.path.parents) if _exists(folder))
        if not existing.is_dir():
            what = "is a file" if existing == self.path else f"{existing} is a file"
            raise InputError(f"{self}: {what}, expected a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise MachineError(
                f"{self}: the folder {existing} cannot be written; choose another, or change its permissions"
            )

    def zarr_store(self) -> ZarrStore:
        return _Durable(self.path)

    def read(self, key: str) -> bytes | None:
        try:
            return (self.path / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, content: bytes) -> None:
        _write_through(self.path / key, content)

    def keys(self, below: str = "") -> Iterator[str]:
        if (self.path / below).is_file():
            yield below
        for folder, _, files in os.walk(self.path / below):
            for name in files:
                if name != LOCK and not name.endswith(_PARTIAL):
                    yield (Path(folder) / name).relative_to(self.path).as_posix()

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self.path / key).unlink(missing_ok=True)

    def clear(self) -> None:
        for item in list(self.path.iterdir()):
            if item.name not in (LOCK, "zarr.json"):
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        self.remove(["zarr.json"])

    def tidy(self) -> None:
        for left in [*self.path.rglob(f"*{_PARTIAL}"), self.path / LOCK]:  # who waits for the lock makes it anew
            left.unlink(missing_ok=True)

    def size(self) -> int:
        return sum((self.path / key).stat().st_size for key in self.keys())

    def free(self) -> int | None:
        return shutil.disk_usage(next(folder for folder in (self.path, *self.path.parents) if folder.exists())).free

    @contextmanager
    def locked(self, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            with self._lock(shared, monotonic() + patience):
                try:
                    yield
                finally:
                    if not shared and [item.name for item in self.path.iterdir()] == [LOCK]:
                        self.tidy()
        finally:
            for folder in made:
                with suppress(OSError):  # not made, or not empty
                    folder.rmdir()

    def _lock(self, shared: bool, until: float) -> IO[Any]:
        """The open lock file; the system frees the lock when the process ends, however it ends."""
        kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / LOCK).open("a+")
            try:
                portalocker.lock(file, kind | portalocker.LockFlags.NON_BLOCKING)
                if _is_same(file, self.path / LOCK):
                    return file
            except portalocker.AlreadyLocked:
                if monotonic() > until:
                    file.close()
                    raise BusyError(
                        f"{self}: another run is writing this store; wait until it has ended, "
                        "or share the work between runs with --part"
                    ) from None
            except portalocker.LockException as error:
                if getattr(error.args[0], "errno", None) not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):
                    raise OSError(*getattr(error.args[0], "args", error.args)) from error
                log.warning("%s: this file system has no locks; start no second run before this one has ended", self)
                return file
            file.close()
            sleep(_PATIENCE)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return False
    return True


def _is_same(file: IO[Any], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write_through(path: Path, content: Any) -> None:
    """Write a file that is whole or not there, also when the machine loses its power: on the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


class _Durable(LocalStore):
    """zarr's local store, but a file is on the disk before it has its name.

    Without it, a chunk that was named just before a loss of power can be there and empty.
    """

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        await asyncio.to_thread(_write_through, self.root / key, value.as_buffer_like())


@dataclass(frozen=True)
class Bucket(Place):
    """A URL that fsspec knows, such as s3://bucket/name: an upload is whole or not there. It has no locks.

    Credentials and endpoints come from where fsspec and its file systems look for them: the environment
    (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID), their own files, or ~/.config/fsspec.
    """

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def is_shared(self) -> bool:
        return "memory" not in self._system[0].protocol

    def check(self) -> None:
        """Nothing can be known before the first upload."""

    @cached_property
    def _system(self) -> tuple[Any, str]:
        fs, root = fsspec.url_to_fs(self.name)
        return fs, str(root).rstrip("/")

    def zarr_store(self) -> ZarrStore:
        return FsspecStore.from_url(self.name)

    def read(self, key: str) -> bytes | None:
        fs, root = self._system
        with self.reached():
            try:
                content: bytes = fs.cat_file(f"{root}/{key}")
            except FileNotFoundError:
                return None
            return content

    def write(self, key: str, content: bytes) -> None:
        fs, root = self._system
        with self.reached():
            try:
                fs.pipe_file(f"{root}/{key}", content)
            except FileNotFoundError as error:
                raise self._nowhere(error) from None

    def keys(self, below: str = "") -> Iterator[str]:
        fs, root = self._system
        with self.reached():
            fs.invalidate_cache()  # others write, too
            try:
                found = fs.find(f"{root}/{below}".rstrip("/"))
            except FileNotFoundError as error:
                raise self._nowhere(error) from None
            for path in found:
                yield str(path)[len(root) + 1 :]

    def _nowhere(self, error: OSError) -> InputError:
        return InputError(f"{self}: {error.strerror or error}; expected a bucket that exists")

    def remove(self, keys: Iterable[str]) -> None:
        fs, root = self._system
        with self.reached():
            for key in keys:
                with suppress(FileNotFoundError):
                    fs.rm_file(f"{root}/{key}")

    def clear(self) -> None:
        fs, root = self._system
        with self.reached():
            others = [f"{root}/{key}" for key in self.keys() if key != "zarr.json"]
            if others:
                fs.rm(others)
        self.remove(["zarr.json"])

    def tidy(self) -> None:
        """There is nothing to do: an upload that was cut off leaves no key."""

    def size(self) -> int:
        fs, root = self._system
        with self.reached():
            fs.invalidate_cache()
            return int(fs.du(root))

    @contextmanager
    def reached(self) -> Iterator[None]:
        try:
            yield
        except (OSError, InputError, MachineError):
            raise
        except Exception as error:  # each cloud has errors of its own
            raise OSError(f"{type(error).__name__}: {error}") from error
