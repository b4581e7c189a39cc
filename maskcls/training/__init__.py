"""The loop, the run folder, the trackers and the work that only one process of a launch does."""
