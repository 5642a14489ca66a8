"""Everything that starts a run: the command, the job file, the clock, locks, signals and exit codes."""
