"""Starting TensorFlow and Beam, threads, workers, progress and flags. Imports no other room."""
