"""Two example jobs on real data that comes with scikit-learn."""
