"""Large values in a folder: one file each, written whole, synced, then named."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from agentflow.errors import ConfigError, StoreUnavailable
from agentflow.store.blobs import Held

log = logging.getLogger(__name__)

ABANDONED_S = 86_400.0
"""Age of a file that was begun and not finished after which it is removed."""


class BlobFolder:
    """A BlobStore in ``folder/<space>/<tenant>/<ab>/<sha256>``, for this user's eyes alone."""

    local = True

    def __init__(self, folder: Path, space: UUID) -> None:
        self.place = str(folder)
        self._folder, self._root = folder, folder / space.hex
        self._drafts = self._root / ".drafts"

    async def put(self, tenant: UUID, sha256: str, content: bytes) -> None:
        """See the contract."""
        with self._reachable():
            await asyncio.to_thread(self._write, self._path(tenant, sha256), content)

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
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == len(content):
                _sync(path.parent)  # whoever named it may not have got there yet
                return
        for folder in (self._drafts, path.parent):
            _make(self._folder, folder)
        draft = self._drafts / secrets.token_hex(16)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)

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
