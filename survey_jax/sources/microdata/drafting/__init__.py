"""A codebook drafted from a file of respondents: what its columns and codes seem to mean, for the user to edit."""
