"""The scheduler: a daemon over folders of job files. Each run is a process of its own.

The ledger decides what is due (`catch_up`), APScheduler says when to look (`clock`), and `daemon` brings them together.
"""

from jobs.scheduler.daemon import Daemon, NotReady
from jobs.scheduler.settings import Settings
from jobs.scheduler.snapshot import Snapshot

__all__ = ["Daemon", "NotReady", "Settings", "Snapshot"]
