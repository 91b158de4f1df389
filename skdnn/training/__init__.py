"""What trains networks: rows and folds, progress and early stopping, threads and interrupts."""
