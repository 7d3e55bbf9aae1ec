"""Who is seen in training and who is not, and the audit that proves it."""
