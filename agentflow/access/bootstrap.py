"""The API key of a fresh installation, kept in its data folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from agentflow.access.apikeys import new_key
from agentflow.errors import ConfigError

KEY_FILE = "api-key"


def kept_key(data_dir: Path) -> str:
    """The key that is kept in the data folder, mode 0600; made at the first call.

    Raises ConfigError when the data folder cannot be written or the file is open to others.
    """
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _write_new(path)
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others; run: chmod 600 {path}")
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"The API key cannot be kept in {data_dir} ({error.strerror}); "
            "set API_KEY, or AGENTFLOW_DATA_DIR to a folder you may write"
        ) from error


def _write_new(path: Path) -> None:
    """Create the key file whole: of two processes that start at once, one key wins."""
    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(new_key() + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
