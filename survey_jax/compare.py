"""Compares runs on the rows that all of them predicted: paired differences, corrected for their number.

    python -m survey_jax.compare RUN_A RUN_B ...

Each is a run or one of its eval folders, and the first is what the others are compared with. Of a run, its newest
evaluation is taken, of the same splits for all; which one is printed. Prints a table, and writes comparison.json beside
the first run's predictions.
"""

from pathlib import Path

from survey_jax import cli
from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.common.files import write_json
from survey_jax.survey.evaluation import comparison


def main(*places: str) -> None:
    if len(set(places)) < 2:
        raise UserError("give two or more runs, the first being what the others are compared with")
    files = dict(zip(places, comparison.find_predictions([Path(place) for place in places]), strict=True))
    for place, file in files.items():
        say(f"{place}: {file}")
    found = comparison.compare({place: comparison.read_predictions(file) for place, file in files.items()})
    comparison.print_comparison(found)
    output = files[places[0]].with_name("comparison.json")
    write_json(output, comparison.to_json(found, files))
    say(f"results: {output}")


if __name__ == "__main__":
    cli.run(main, arguments=True)
