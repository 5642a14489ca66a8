"""The scheduler's face: a page and an API to look at, metrics, and the door for alerts, which alone has anything done."""
