"""Pretrained models from Hugging Face or GGUF files to our arrays, and back."""
