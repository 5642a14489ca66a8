"""The errors a caller can catch.

    BatchgaugeError
    ├── SpecError     the job file (or the environment) says something that can't be done
    ├── DataError     input, output or labels are missing, unreadable, unwritable or of the wrong shape
    │   └── UnreadableError    a file or part can't be used as it is; the others of the run can
    ├── ModelError    the model can't be loaded, or its output doesn't fit the task
    │   └── OutOfMemoryError   a batch doesn't fit into memory; a smaller one may
    ├── EngineError   the machines that work on parts can't be had, were lost, or don't see the same files
    ├── LedgerError   the ledger can't be opened, read or written
    └── PushError     the gateway (or the textfile folder) didn't take the state

Every message names the file, key, column, row group or URL it is about and says what to do.
"""

from __future__ import annotations


class BatchgaugeError(Exception):
    """Root of every error that batchgauge raises on purpose."""


class SpecError(BatchgaugeError):
    """The job file or the environment says something that can't be done."""


class DataError(BatchgaugeError):
    """Input, output or labels are missing, unreadable, unwritable or of the wrong shape."""


class UnreadableError(DataError):
    """A file or part can't be used as it is; the others of the run can."""


class ModelError(BatchgaugeError):
    """The model can't be loaded safely, or what it returns doesn't fit the task."""


class OutOfMemoryError(ModelError):
    """A batch doesn't fit into memory, of the host or of the accelerator; a smaller one may."""


class EngineError(BatchgaugeError):
    """The machines that work on parts can't be had, were lost, or don't see the same files."""


class LedgerError(BatchgaugeError):
    """The ledger can't be opened, read or written."""


class PushError(BatchgaugeError):
    """The state was not delivered.

    `permanent` says that trying again can't help (the gateway refused the request);
    otherwise the state stays owed and whoever comes next delivers it. `unavailable`: the gateway takes nothing at
    present, whatever is sent.
    """

    def __init__(self, message: str, *, permanent: bool, unavailable: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.unavailable = unavailable


def storable(words: str) -> str:
    """Other people's words as every ledger can keep them: bytes that are no UTF-8 are written out, NUL becomes �."""
    return words.encode(errors="backslashreplace").decode().replace("\0", "\ufffd")


def printable(words: str) -> str:
    """Other people's words made fit for a line of a message: what isn't printable (controls, line breaks) becomes �."""
    return "".join(character if character.isprintable() else "\ufffd" for character in words)
