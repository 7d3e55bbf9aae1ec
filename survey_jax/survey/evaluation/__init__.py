"""Metrics, intervals, comparisons and the score of a split."""
