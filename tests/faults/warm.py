"""The `batchgauge` command in processes that begin with torch loaded, so that one takes a fraction of a second.

    python -m tests.faults.warm

Reads a line of JSON for each command: its arguments, its environment, where its output goes. Answers each with its
exit code, a line each, once it has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """A command that has ended, and all that it has said."""

    code: int
    output: str


class Commands:
    """Runs commands from `with` to the end of the block."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def __call__(self, *arguments: object, variables: Mapping[str, str]) -> Done:
        """Run one, with nothing else in its environment."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        call = {"arguments": list(map(str, arguments)), "variables": dict(variables), "output": str(self._output)}
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Done(code, self._output.read_text(errors="replace"))


def _command(call: Mapping[str, object]) -> None:
    """Be the command."""
    from jobs.cli import main as batchgauge  # noqa: PLC0415  the parent has loaded what is heavy already

    arguments, variables = call["arguments"], call["variables"]
    assert isinstance(arguments, list)
    assert isinstance(variables, dict)
    output = os.open(str(call["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(here, there)
    sys.argv = ["batchgauge", *arguments]
    os.environ.clear()
    os.environ.update(variables)
    batchgauge()


def main() -> None:
    """Fork for each command that is read."""
    import jobs.run  # noqa: F401, PLC0415  to have torch loaded

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            code = 70
            try:
                _command(json.loads(line))
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:  # noqa: BLE001  as the interpreter would
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
