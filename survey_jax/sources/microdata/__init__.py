"""From a file of respondents and its codebook to a survey table."""
