"""What any long job needs: random streams, progress, run folder and lock, checkpoints, logs, signals."""
