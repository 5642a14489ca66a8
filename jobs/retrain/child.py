"""The process that trains: `python -m jobs.retrain.child TASK`. What it says last is what people are told if it fails."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from jobs.retrain.contract import TASK
from pipelines import entrypoint
from pipelines.errors import SpecError


def main(file: Path) -> int:
    """Call the training function. Returns the exit code."""
    task = TASK.validate_json(file.read_bytes())
    try:
        entrypoint.load(task.entrypoint, task.folder)(task.training)
    except SpecError as error:
        print(error, file=sys.stderr)  # noqa: T201  the process's own output
        return 1
    except Exception as error:  # noqa: BLE001  a training function may raise anything
        traceback.print_exc()
        print(f"\n{type(error).__name__}: {error}{entrypoint.blame(error)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
