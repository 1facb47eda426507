"""Removes a data folder and what dead servers of this user left behind; prints the kilobytes freed."""

import os
import sys
import tempfile
from pathlib import Path

from agentflow.distributed import sweep
from agentflow.errors import AgentFlowError
from agentflow.store import embedded

OURS = ("api-key", "server.json")


def size(folder: Path) -> int:
    """What a folder occupies on the disk, in bytes."""
    below = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    return sum(os.lstat(path).st_blocks * 512 for path in below if os.path.lexists(path))


def main(data_dir: Path) -> None:
    temporary = Path(tempfile.gettempdir())
    rays = list(temporary.glob(f"{sweep.PREFIX}*"))
    before = size(data_dir) + sum(size(folder) for folder in rays)
    embedded.destroy(data_dir)
    sweep.sweep_abandoned(temporary)
    for name in OURS:
        (data_dir / name).unlink(missing_ok=True)
    if data_dir.is_dir():
        if any(data_dir.iterdir()):
            print(f"clean: {data_dir} holds files of others; it is kept", file=sys.stderr)
        else:
            data_dir.rmdir()
    after = size(data_dir) + sum(size(folder) for folder in rays if folder.exists())
    print((before - after) // 1024)


try:
    main(Path(sys.argv[1]))
except AgentFlowError as error:
    sys.exit(f"clean: {error.message}")
except OSError as error:
    sys.exit(f"clean: {error.filename} cannot be removed ({error.strerror})")
