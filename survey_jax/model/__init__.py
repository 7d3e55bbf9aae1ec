"""The language model: decoder, attention, adapters, weights in and out. Knows nothing of surveys."""
