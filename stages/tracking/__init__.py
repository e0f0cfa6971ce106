"""MLflow as a view of the output folders; nothing outside this package imports it."""

from stages.tracking.tracker import Live, Tracker, TrackingError, open

__all__ = ["Live", "Tracker", "TrackingError", "open"]
