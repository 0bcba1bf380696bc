"""Starting TensorFlow and Beam, threads, workers and progress. Imports nothing else of ours."""
