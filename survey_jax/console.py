"""What a run tells people while it goes on."""

import jax


def is_first() -> bool:
    """Whether this is process 0, which alone writes logs and reports."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """A plain line for people, on process 0."""
    if is_first():
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
