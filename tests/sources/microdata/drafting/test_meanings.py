"""What the codes of a column seem to mean, by rules that need no language: labels here are of no known one."""

from collections.abc import Mapping

import pytest

from survey_jax.sources.microdata.drafting.meanings import Meanings, Shared, apart, meanings, share
from survey_jax.sources.microdata.drafting.seen import Seen, plain
from survey_jax.sources.microdata.readers import Variable


def column(values: Mapping[int, str], codes: str = "", name: str = "q") -> Seen:
    """A column whose labelled codes all occur, and the unlabelled `codes` too."""
    labels = {str(code): label for code, label in values.items()}
    counts = dict.fromkeys([*labels, *codes.split()], 5)
    return Seen(name, Variable(values=labels), counts, (), False)


def kinds(found: Meanings) -> dict[str, str]:
    """code -> a letter: answer, doubtful, missing, not asked."""
    doubtful = dict.fromkeys(found.doubts, "d")
    return (
        dict.fromkeys(found.answers, "a")
        | doubtful
        | dict.fromkeys(found.missing, "m")
        | dict.fromkeys(found.not_asked, "n")
    )


SCALE = {1: "hen", 2: "dva", 3: "tri", 4: "car"}


@pytest.mark.parametrize(
    ("codes", "standing_apart"),
    [
        ("1 2 3 4 8 9", "8 9"),
        ("1 2 3 4 7 8 9", "7 8 9"),
        ("1 2 8 9", "8 9"),
        ("0 1 9", "9"),
        ("0 1 2 3 4 5 6 7 8 9 10 77 88 99", "77 88 99"),
        ("1 2 3 97 98 99", "97 98 99"),
        ("1 2 3 995 996 997 998 999", "995 996 997 998 999"),
        ("1 2 9999", "9999"),
        ("1 2 3 -1 -2 -9", "-9 -2 -1"),
        ("0 1 -1 -2", "-2 -1"),
        ("0 1 2 3 -1", "-1"),
        ("-2 -1 0 1 2 8 9", "8 9"),
        ("-2 -1 0 1 2 -9 -8", "-9 -8"),
        ("-5 -4 -3 -2 -1 0 1 2 3 4", ""),  # nobody chose 5
        ("-1 0 1", ""),
        ("0 1 2 3 4 5 6 7 8 9 10", ""),
        ("1 2 3 4 5 6 7", ""),
        ("1 2 3 4 5 6 7 8 9", ""),
        ("11 12 13 14 8 9", ""),  # no code of no answer has fewer digits
        ("10 20 30 40", ""),
        ("32 76 604 840", ""),
    ],
)
def test_which_codes_stand_apart(codes, standing_apart):
    labels = {int(code): f"w{code}" for code in codes.split()}
    assert apart(column(labels)) == standing_apart.split()


def test_a_label_that_recurs_apart_is_no_answer_and_one_that_does_not_is_to_be_said():
    odd = column(SCALE | {9: "kvit"})
    often = [column(SCALE | {8: "ziba"}, name=f"q{i}") for i in range(3)]
    beside = column(dict.fromkeys(range(1, 8), "") | {i: f"w{i}" for i in range(1, 8)} | {8: "ziba"})  # 8 goes on
    shared = share([*often, odd, beside])
    assert kinds(meanings(odd, shared)) == dict.fromkeys("1234", "a") | {"9": "d"}
    assert meanings(odd, shared).answers["9"] == "TODO: kvit"
    for seen in often:
        found = meanings(seen, shared)
        assert kinds(found) == dict.fromkeys("1234", "a") | {"8": "m"}
        assert found.missing["8"].startswith("8 ziba (apart from the answers of 3 questions")
    assert meanings(beside, shared).missing.keys() == {"8"}


def test_yes_and_no_are_answers_whatever_their_code():
    for yes, no in (
        ("Yes", "No"),
        ("Sí", "No"),
        ("Да", "Нет"),
        ("是", "否"),
        ("نعم", "لا"),
        ("हाँ", "नहीं"),
        ("Có", "Không"),
    ):
        assert set(kinds(meanings(column({1: yes, 9: no}), Shared())).values()) == {"a"}


def test_other_and_none_have_codes_of_their_own_and_are_answers():
    lists = [column(SCALE | {96: "Otro", 97: "Ninguno", 98: "Neither of these", 99: "Keine Partei"}) for _ in range(4)]
    assert set(kinds(meanings(lists[0], share(lists))).values()) == {"a"}


def test_the_end_of_a_scale_is_an_answer_whatever_its_code():
    ends = [
        column({1: "Not at all", 7: "Completely agree"}, "2 3 4 5 6"),
        column({0: "w", 10: "y"}, "1 2 3 4 5 6 7 8 9"),
    ]
    ends += [column({1: "Bad", 9: "Good"}, "2 3 4 5 6 7 8", name="nine")]
    shared = share([*ends, *ends, *ends])
    for seen in ends:
        found = meanings(seen, shared)
        assert set(kinds(found).values()) == {"a"}
        assert found.answers[seen.known[1]] == seen.known[1]  # stands for itself
        assert not any("TODO" in text for text in found.answers.values())


def test_an_ambiguous_word_goes_by_its_place():
    applies = {1: "trifft voll zu", 2: "trifft eher zu", 3: "trifft eher nicht zu", 4: "trifft nicht zu"}
    assert set(kinds(meanings(column(applies), Shared())).values()) == {"a"}
    assert kinds(meanings(column({1: "ja", 2: "nein", -8: "trifft nicht zu"}), Shared()))["-8"] == "n"
    assert kinds(meanings(column({1: "ja", 2: "nein", 3: "trifft nicht zu"}), Shared()))["3"] == "d"
    assert kinds(meanings(column({1: "Apruebo", 2: "Rechazo", 9: "NS/NC"}), Shared())) == {"1": "a", "2": "d", "9": "m"}
    assert kinds(meanings(column({1: "Da", 2: "Nu", 99: "Refuz"}), Shared()))["99"] == "m"
    assert kinds(meanings(column(SCALE | {5: "Não sabe", 6: "Recusou"}), Shared()))["6"] == "m"


def test_short_names_of_states_are_no_abbreviations_of_no_answer():
    states = dict(enumerate(("NC", "SC", "NY", "NS", "CA", "TX", "NA"), start=1))
    assert set(kinds(meanings(column(states), Shared())).values()) == {"a"}
    assert kinds(meanings(column({1: "Sí", 2: "No", 8: "NS", 9: "NC"}), Shared())) == dict(
        zip("1289", "aamm", strict=True)
    )


def test_a_code_without_a_label_beside_labels_is_to_be_said():
    found = meanings(column({1: "No", 2: "Yes"}, "3 9"), Shared())
    assert found.answers == {"1": "No", "2": "Yes", "3": "TODO: what 3 means", "9": "TODO: 9"}
    assert found.doubts.keys() == {"9"}
    count = meanings(column({8: "8 or more"}, "0 1 2 3 4 5 6 7"), Shared())
    assert [*count.answers.values()] == [*"01234567", "8 or more"]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("<p>How&nbsp;satisfied are you with <strong>parks</strong>?</p>", "How satisfied are you with parks?"),
        ("Bad &amp; ugly", "Bad & ugly"),
        ("<b>Good</b>", "Good"),
        ("one<br/>two", "one two"),
        ("<span style='color:red'>Red</span> 5 &lt; 6", "Red 5 < 6"),
        ("&nbsp;", ""),
        ("<div></div>", ""),
        ("< 5 years", "< 5 years"),
        ("a<b and c>d", "a<b and c>d"),
        ("AT&T; R&D", "AT&T; R&D"),
        ("5 &notanentity; 6", "5 &notanentity; 6"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_labels_lose_the_tags_of_html_and_nothing_else(label, text):
    assert plain(label) == text
