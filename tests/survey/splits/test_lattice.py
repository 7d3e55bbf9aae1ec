"""Groups as sums of groups."""

import dataclasses

from survey_jax.survey.splits.lattice import cell, lattice, parts
from survey_jax.survey.table import Answer


def group(**values):
    return frozenset(values.items())


def sums(*groups):
    graph = lattice(frozenset(groups))
    return {(graph.groups[base], frozenset(graph.groups[v] for v in values)) for base, values in graph.sums}


def test_a_group_is_the_sum_over_one_more_attribute_whether_the_table_has_it_or_not():
    men, women, old = group(sex="m"), group(sex="f"), group(age="old")
    old_men = men | old
    assert sums(men, women) == {(group(), frozenset({men, women}))}
    assert (men, frozenset({old_men})) in sums(old_men, women)  # men are virtual


def test_values_that_were_not_crossed_do_not_make_a_sum_complete():
    men, women, old, young = group(sex="m"), group(sex="f"), group(age="old"), group(age="young")
    found = sums(men, women, old, young, men | young, women | young)
    assert (men, frozenset({men | young})) not in found  # the old men are there, but not in the table
    assert (young, frozenset({men | young, women | young})) in found


def test_what_all_cells_name_falls_away():
    kenya, peru = group(country="KEN"), group(country="PER")
    old = group(age="old")
    found = parts(frozenset({kenya, kenya | old, peru, peru | old}))
    assert {frozenset(part) for part in found} == {frozenset({group(), old})}
    assert {frozenset(part.values()) for part in found} == {
        frozenset({kenya, kenya | old}),
        frozenset({peru, peru | old}),
    }


def test_chain_follows_sums_with_one_unknown():
    men, women, old, young = group(sex="m"), group(sex="f"), group(age="old"), group(age="young")
    graph = lattice(frozenset({men, women, old, young}))
    found = graph.chain({graph.index[g] for g in (men, women, young)})
    assert [graph.groups[g] for g in found] == [group(), old]
    assert graph.chain({graph.index[men], graph.index[young]}) == {}


def test_a_cell_has_the_wave_and_one_name_a_country():
    row = Answer("S", "Q", "Fair?", ("Yes", "No"), (("country", "Great Britain"),), (0.5, 0.5), wave="7")
    same = dataclasses.replace(row, group=(("Country", "GBR"),))
    assert cell(row) == cell(same)
    assert cell(dataclasses.replace(row, wave=None)) < cell(row)
