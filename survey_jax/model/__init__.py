"""The language model: decoder, attention, adapters. Opens no file, and knows nothing of surveys."""
