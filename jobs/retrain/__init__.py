"""Training a job's model again: by hand or for an alert, and in use only when it is better."""

from jobs.retrain.contract import Training

__all__ = ["Training"]
