"""What a run records: metrics, times, profiles, and the manifest of how it was made."""
