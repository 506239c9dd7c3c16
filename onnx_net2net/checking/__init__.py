"""Runs models and compares what they compute."""
