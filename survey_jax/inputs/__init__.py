"""From survey rows to the arrays of a step: prompts, tokens, answer trees, batches."""
