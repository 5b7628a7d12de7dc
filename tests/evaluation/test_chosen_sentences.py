"""Which sentences the expensive figures are of."""

import torch

from hf_bnvae.evaluation.chosen_sentences import ChosenSentence, ChosenSentences


def sentence(place: int) -> ChosenSentence:
    return ChosenSentence(place, torch.tensor([place]), torch.zeros(1), torch.zeros(1), 1)


def chosen_places(places, count: int) -> list[int]:
    chosen = ChosenSentences(count)
    for place in places:
        if chosen.wants(place):
            chosen.add(sentence(place))
    return [entry.place for entry in chosen.first(count)]


def test_the_choice_does_not_depend_on_the_way_through_the_data():
    whole = chosen_places(range(1000), 50)
    assert len(set(whole)) == 50
    assert chosen_places(reversed(range(1000)), 50) == whole
    parts = ChosenSentences(50)
    for first in (0, 1, 2):
        share = ChosenSentences(50)
        for place in range(first, 1000, 3):
            if share.wants(place):
                share.add(sentence(place))
        parts.merge(share)
    assert [entry.place for entry in parts.first(50)] == whole


def test_a_smaller_choice_is_part_of_a_larger_one():
    assert chosen_places(range(1000), 20) == chosen_places(range(1000), 50)[:20]
    assert sorted(chosen_places(range(30), 50)) == list(range(30))


def test_the_choice_is_spread_over_the_data():
    places = chosen_places(range(10_000), 1000)
    counts = torch.histc(torch.tensor(places, dtype=torch.float), 10, 0, 10_000)
    assert counts.min() > 70 and counts.max() < 130  # 100 each, with a standard deviation of 9.5
    # Neighbours in the order of choice are no neighbours in the data.
    distances = (torch.tensor(places[1:]) - torch.tensor(places[:-1])).abs().double()
    assert 3000 < distances.mean() < 3700  # a third of the whole
