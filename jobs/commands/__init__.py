"""The commands, by what they are for. `jobs.cli` gathers them; each imports what it needs when it runs."""
