"""Weights on disk: read as ranges of files, made piece by piece, and written without ever holding a model."""
