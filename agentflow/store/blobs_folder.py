"""Large values in a folder: one file each, written whole, synced, then named."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from agentflow.errors import ConfigError, StoreUnavailable
from agentflow.store.blobs import ABANDONED_S, PIECE_BYTES, Draft, Held

log = logging.getLogger(__name__)


class BlobFolder:
    """A BlobStore in ``folder/<space>/<tenant>/<ab>/<sha256>``, for this user's eyes alone."""

    local = True

    def __init__(self, folder: Path, space: UUID) -> None:
        self.place = str(folder)
        self._folder, self._root = folder, folder / space.hex
        self._drafts = self._root / ".drafts"

    async def put(
        self, tenant: UUID, sha256: str, content: bytes, after: Awaitable[object] | None = None
    ) -> None:
        """See the contract."""
        path = self._path(tenant, sha256)
        if after is None:
            with self._reachable():
                await asyncio.to_thread(self._write, path, content)
            return
        draft = self._drafts / secrets.token_hex(16)
        writing = asyncio.ensure_future(asyncio.to_thread(self._write_draft, draft, path, content))
        try:
            with self._reachable():
                await asyncio.shield(writing)
            await after
            with self._reachable():
                await asyncio.to_thread(self._settle, draft, path, content)
        finally:
            if writing.done():
                _remove(draft)
            else:  # given up while a thread writes it
                writing.add_done_callback(lambda _: _remove(draft))

    @contextlib.asynccontextmanager
    async def draft(self) -> AsyncIterator[Draft]:
        """See the contract."""
        path = self._drafts / secrets.token_hex(16)
        opening = asyncio.ensure_future(asyncio.to_thread(self._open_draft, path))
        try:
            with self._reachable():
                file = await asyncio.shield(opening)
            yield _FolderDraft(self, path, file)
        finally:
            if opening.done():
                _discard(path, opening)
            else:  # given up while a thread makes the file
                opening.add_done_callback(partial(_discard, path))

    async def size(self, tenant: UUID, sha256: str) -> int | None:
        """See the contract."""
        with self._reachable():
            return await asyncio.to_thread(self._size, self._path(tenant, sha256))

    async def pieces(self, tenant: UUID, sha256: str) -> AsyncIterator[bytes]:
        """See the contract."""
        with self._reachable():
            if await asyncio.to_thread(self._size, self._path(tenant, sha256)) is None:
                return
            file = await asyncio.to_thread(self._path(tenant, sha256).open, "rb")
            with file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    yield piece

    async def get(self, tenant: UUID, sha256: str) -> bytes | None:
        """See the contract."""
        with self._reachable():
            return await asyncio.to_thread(self._read, self._path(tenant, sha256))

    async def remove(self, tenant: UUID, sha256: str) -> None:
        """See the contract."""
        with self._reachable():
            await asyncio.to_thread(self._path(tenant, sha256).unlink, missing_ok=True)

    async def held(self) -> list[Held]:
        """See the contract."""
        with self._reachable():
            return await asyncio.to_thread(self._held)

    async def check(self) -> None:
        """See the contract."""
        trial = self._drafts / secrets.token_hex(4)
        try:
            await asyncio.to_thread(self._write, trial, b"trial")
            await asyncio.to_thread(self._tidy, trial)
        except OSError as error:
            raise ConfigError(
                f"Large values cannot be kept in {self.place} ({error.strerror}): see to the folder, "
                "or set AGENTFLOW_BLOBS to another one"
            ) from None

    def _path(self, tenant: UUID, sha256: str) -> Path:
        return self._root / tenant.hex / sha256[:2] / sha256

    def _write(self, path: Path, content: bytes) -> None:
        """The file is there, whole and durable, when this returns."""
        if self._is_there(path, len(content)):
            return
        draft = self._drafts / secrets.token_hex(16)
        try:
            with self._open_draft(draft) as file:
                file.write(content)
                self._finish(file, draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def _write_draft(self, draft: Path, path: Path, content: bytes) -> None:
        """Content under way to this path: durable, but for its name. None where it seems to be there."""
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == len(content):
                return
        with self._open_draft(draft) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _settle(self, draft: Path, path: Path, content: bytes) -> None:
        """The file is there, whole and durable, when this returns."""
        if self._is_there(path, len(content)):
            return
        try:
            self._name(draft, path)
        except FileNotFoundError:  # what was there has been collected since
            self._write(path, content)

    def _is_there(self, path: Path, size: int) -> bool:
        """Whether a file of this size is there, durable."""
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == size:
                _sync(path.parent)  # whoever named it may not have got there yet
                return True
        return False

    def _open_draft(self, draft: Path) -> BinaryIO:
        """A new file for this user's eyes alone."""
        _make(self._folder, self._drafts)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        return os.fdopen(os.open(draft, flags, 0o600), "wb")

    def _finish(self, file: BinaryIO, draft: Path, path: Path) -> None:
        """Give a draft its name; it is durable when this returns."""
        file.flush()
        os.fsync(file.fileno())
        self._name(draft, path)

    def _name(self, draft: Path, path: Path) -> None:
        _make(self._folder, path.parent)
        os.replace(draft, path)
        _sync(path.parent)

    def _size(self, path: Path) -> int | None:
        """A file that is not there is no more than missing while the folder itself is there."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            os.scandir(self._root).close()
            return None

    def _read(self, path: Path) -> bytes | None:
        """A file that cannot be read is no more than missing while the folder itself is there."""
        try:
            return path.read_bytes()
        except OSError as error:
            os.scandir(self._root).close()
            if not isinstance(error, FileNotFoundError):
                log.error("blob_unreadable", extra={"path": str(path), "error": error.strerror})
            return None

    def _held(self) -> list[Held]:
        return [
            Held(UUID(hex=path.parent.parent.name), path.name, path.stat().st_size)
            for path in self._root.glob("[0-9a-f]*/[0-9a-f][0-9a-f]/[0-9a-f]*")
        ]

    def _tidy(self, trial: Path) -> None:
        """Remove the trial, and drafts of processes that ended while they wrote."""
        trial.unlink()
        for draft in self._drafts.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > ABANDONED_S:
                    draft.unlink()

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"The folder of large values, {self.place}, is away ({error.strerror}): see to its "
                "disk and its permissions"
            ) from error


class _FolderDraft:
    """A file that has no name among the others yet."""

    def __init__(self, folder: BlobFolder, path: Path, file: BinaryIO) -> None:
        self._folder, self._path, self._file = folder, path, file

    async def write(self, content: bytes) -> None:
        """See the contract."""
        with self._folder._reachable():
            await asyncio.to_thread(self._file.write, content)

    async def keep(self, tenant: UUID, sha256: str, size: int) -> None:
        """See the contract."""
        with self._folder._reachable():
            await asyncio.to_thread(self._keep, self._folder._path(tenant, sha256), size)

    def _keep(self, path: Path, size: int) -> None:
        if not self._folder._is_there(path, size):
            self._folder._finish(self._file, self._path, path)


def _discard(path: Path, opening: asyncio.Future[BinaryIO]) -> None:
    """A draft whose writer has ended, however it did; nothing happens where it has its name."""
    with contextlib.suppress(OSError):
        opening.result().close()
    _remove(path)


def _remove(draft: Path) -> None:
    with contextlib.suppress(OSError):
        draft.unlink()


def _make(top: Path, folder: Path) -> None:
    """The folder and those above it, up to ``top``; each is durable in the one above it."""
    if folder.is_dir():
        return
    if folder != top:
        _make(top, folder.parent)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
