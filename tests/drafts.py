"""Drafted codebooks in tests."""

_PLACE = '  country: {value: "TODO: where all of them live"}\n'


def as_it_stands(draft: str) -> str:
    """A draft of which every TODO is taken as it stands, with all groups, and without a country if none is known."""
    if _PLACE in draft:
        draft = draft.replace(_PLACE, "").replace("breakdowns: [[country], [", "breakdowns: [[")
    return draft.replace("TODO: ", "").replace("min_n: 50", "min_n: 1")
