"""What breaks around a run, done on purpose: gateways, processes, power, disks, files, clocks."""
