"""``agentflow blobs``: what steps kept beside the journal, such as pictures, brought into files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from agentflow.cli import options
from agentflow.cli.asking import Operator, ask
from agentflow.cli.screen import Format
from agentflow.errors import BlobLost, ConfigError, Conflict, InvalidInput

Json = Any
_ENDINGS = {"image/jpeg": "jpg", "application/x-ndjson": "jsonl", "text/csv": "csv"}

app = typer.Typer(
    help="What steps kept, such as pictures.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _blobs() -> None:
    """What steps kept, such as pictures."""


@app.command("save")
def save(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(metavar="BLOB", help="Its address, blob:sha256:...")],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to; else named by the blob, here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    local: options.Local = False,
    output: options.Output = Format.table,
) -> None:
    """Save a blob as a file."""
    from agentflow.flow.blobs import URI

    screen = options.screen(context, output)
    found = URI.fullmatch(uri)
    if found is None:
        raise InvalidInput(f"{uri[:100]!r} is no address of a blob: blob:sha256:... is")

    async def asked(backend: Operator) -> tuple[Path, str, int]:
        async with backend.blob(found[1]) as (kind, pieces):
            target = file or Path(f"{found[1][:16]}.{_ending(kind)}")
            return target, kind, await _write(target, pieces, found[1], force)

    target, kind, size = ask(local, screen, asked)
    if screen.structured:
        screen.document({"uri": uri, "file": str(target), "mime_type": kind, "size": size})
    else:
        screen.text(str(target))


def _ending(kind: str) -> str:
    """The end of a file's name for this media type."""
    ending = _ENDINGS.get(kind, kind.partition("/")[2].partition(";")[0])
    return ending if ending.isalnum() else "bin"


async def _write(target: Path, pieces: AsyncIterator[bytes], sha256: str, force: bool) -> int:
    """Write the file at once or not at all; its size in bytes. Raises Conflict, ConfigError, BlobLost for
    what is another content than was asked for."""
    size, digest = 0, hashlib.sha256()
    with _writing(target, force) as out:
        async for piece in pieces:
            size += out.write(piece)
            digest.update(piece)
        if digest.hexdigest() != sha256:
            raise BlobLost(
                f"What came is not blob:sha256:{sha256}: something changed it on the way; nothing was "
                "saved"
            )
    return size


@contextlib.contextmanager
def _writing(target: Path, force: bool) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its name when all went well, and goes when it did not."""
    draft = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        if target.exists() and not (force and target.is_file()):
            raise Conflict(f"{target} exists already: give another name, or --force to replace it")
        with draft.open("xb") as out:
            yield out
        os.replace(draft, target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
