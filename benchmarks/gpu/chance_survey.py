"""A survey drawn by chance in the shape of the World Values Survey: many questions, each asked in every country."""

import itertools
import json
from pathlib import Path

import numpy as np

SCALES = {  # how a question ends, and its options from one end of a scale to the other
    "how important is it to you?": ("Very important", "Rather important", "Not very important", "Not at all important"),
    "how much do you trust those who decide about it?": ("A great deal", "Quite a lot", "Not very much", "Not at all"),
    "how often do you talk about it with friends?": ("Every day", "Every week", "Sometimes", "Never"),
    "should the government do more about it?": ("Much more", "A little more", "As much as now", "Less"),
    "do you agree that it was better when you were a child?": ("Agree strongly", "Agree", "Neither agree nor disagree",
                                                               "Disagree", "Disagree strongly"),
    "how satisfied are you with it, from 1 (not at all) to 10 (wholly)?": tuple(str(n) for n in range(1, 11)),
}  # fmt: skip
TOPICS = (
    "family life", "work", "free time", "religion", "politics", "the local school", "health care", "public transport",
    "clean air", "the price of food", "news on television", "sports clubs", "the courts", "the police", "housing",
    "old people's care", "science", "art and music", "neighbours of other faiths", "foreign trade", "the army",
    "elections", "marriage customs", "the language taught to children", "drinking water", "roads and bridges",
)  # fmt: skip
COUNTRIES = (
    "Argentina", "Armenia", "Australia", "Bangladesh", "Bolivia", "Brazil", "Canada", "Chile", "China", "Colombia",
    "Cyprus", "Ecuador", "Egypt", "Ethiopia", "Germany", "Greece", "Guatemala", "Indonesia", "Iran", "Iraq", "Japan",
    "Jordan", "Kazakhstan", "Kenya", "Lebanon", "Malaysia", "Mexico", "Morocco", "Myanmar", "Netherlands",
    "New Zealand", "Nigeria", "Pakistan", "Peru", "Philippines", "Romania", "Serbia", "Thailand", "Turkey", "Ukraine",
)  # fmt: skip
RESPONDENTS = 1200  # to a question in a country


def write(path: Path, questions: int, countries: int, seed: int = 0) -> Path:
    """Writes a table of JSON Lines. A country's answers follow from where it and the question stand on three axes.

    Args:
      questions: at most as many as there are topics times scales.
      countries: at most len(COUNTRIES).
    """
    draw = np.random.default_rng(seed)
    asked = list(itertools.product(TOPICS, SCALES))
    chosen = [asked[i] for i in draw.permutation(len(asked))[:questions]]
    places = dict(zip(COUNTRIES[:countries], draw.normal(size=(countries, 3)), strict=True))
    with path.open("w", encoding="utf-8") as file:
        for number, (topic, ending) in enumerate(chosen):
            options, leaning, axes = SCALES[ending], draw.normal(0, 0.5), draw.normal(0, 0.4, 3)
            steps = np.linspace(-1, 1, len(options))
            for country, place in places.items():
                centre = np.tanh(leaning + place @ axes)
                shares = np.exp(-2 * (steps - centre) ** 2)
                row = {
                    "survey": "Survey drawn by chance",
                    "question_id": f"q{number}",
                    "question": f"Think of {topic}: {ending}",
                    "options": options,
                    "scale": "ordinal",
                    "group": {"country": country},
                    "counts": draw.multinomial(RESPONDENTS, shares / shares.sum()).tolist(),
                }
                file.write(json.dumps(row) + "\n")
    return path
