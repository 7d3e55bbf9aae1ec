"""From published shares of answers to a survey table."""
