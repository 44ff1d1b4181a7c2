import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from throughtime.errors import InputError, RecipeError, RunError
from throughtime.ngram import MINIMUM_CANDIDATES, KneserNey

BEGIN = -7  # no word
A, B, C, END = range(4)
CLOSE = {"rtol": 0, "atol": 1e-12}


class PlainKneserNey:
    """Modified Kneser-Ney as its definition reads: dictionaries, loops and recursion; the oracle for the fast model."""

    def __init__(self, ids, *, num_words, end_ids, order):
        self.num_words, self.end_ids, self.order = num_words, set(end_ids), order
        seen = Counter()
        sentence = [BEGIN]
        for word in ids:
            sentence.append(word)
            seen.update(tuple(sentence[-length:]) for length in range(1, min(order, len(sentence)) + 1))
            if word in self.end_ids:
                sentence = [BEGIN]
        words_before = Counter(gram[1:] for gram in seen)
        self.adjusted = {
            gram: count if len(gram) == order or gram[0] == BEGIN else words_before[gram]
            for gram, count in seen.items()
        }
        self.discounts = {length: self.discounts_of(length) for length in range(1, order + 1)}

    def discounts_of(self, length):
        n = Counter(count for gram, count in self.adjusted.items() if len(gram) == length)
        fallback = {1: 0.5, 2: 1.0, 3: 1.5}
        if not (n[1] and n[2] and n[3]):
            return fallback
        y = n[1] / (n[1] + 2 * n[2])
        found = {i: i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)}
        return fallback if min(found.values()) <= 0 else found

    def probability(self, context, word):
        lower = self.probability(context[1:], word) if context else 1 / self.num_words
        followers = {gram[-1]: a for gram, a in self.adjusted.items() if gram[:-1] == context}
        if not followers:
            return lower
        discount = self.discounts[len(context) + 1]
        total = sum(followers.values())
        passed_on = sum(discount[min(a, 3)] for a in followers.values())
        kept = followers[word] - discount[min(followers[word], 3)] if word in followers else 0
        return kept / total + passed_on / total * lower

    def cut(self, context, *, sentence_start):
        """The words that matter in a context: those of the sentence, and of these the last order - 1."""
        kept = [BEGIN] if sentence_start else []
        for word in context:
            kept = [BEGIN] if word in self.end_ids else [*kept, word]
        return tuple(kept[max(0, len(kept) - self.order + 1) :])

    def after(self, context, *, sentence_start=False):
        """(V,) the probability of every word after a context."""
        cut = self.cut(context, sentence_start=sentence_start)
        return np.array([self.probability(cut, word) for word in range(self.num_words)])


@st.composite
def corpora(draw):
    """What `fit` takes: a text over a small vocabulary with one or two ends (or none), and any order."""
    num_words = draw(st.integers(1, 6))
    ids = draw(st.lists(st.integers(0, num_words - 1), min_size=1, max_size=60))
    end_ids = sorted(draw(st.sets(st.integers(0, num_words - 1), max_size=2)))
    return ids, {"num_words": num_words, "end_ids": end_ids, "order": draw(st.integers(1, 6))}


def rows(num_words, max_size=8):
    return st.lists(st.integers(0, num_words - 1), max_size=max_size)


def exactly(*numerators, of):
    return [float(Fraction(numerator, of)) for numerator in numerators]


def test_bigrams_worked_by_hand():
    """The text is "c c b </s> b b b b </s>"; the word a of the vocabulary is not in it, so V = 4.

    Unigrams count the different words before: of b there are three (c, b, begin), of c two (c, begin), of </s> one (b),
    6 in all. So n1 = n2 = n3 = 1, n4 = 0; Y = n1/(n1 + 2 n2) = 1/3; D1 = 1 - 2Y n2/n1 = 1/3; D2 = 2 - 3Y n3/n2 = 1;
    D3+ = 3 - 4Y n4/n3 = 3. gamma = (D3+ + D2 + D1)/6 = 13/18, and gamma/V = 13/72 goes to each word:
        P(a) = 13/72; P(b) = (3-3)/6 + 13/72; P(c) = (2-1)/6 + 13/72 = 25/72; P(</s>) = (1-1/3)/6 + 13/72 = 21/72.

    Bigrams count how often: (b b) 3, (b </s>) 2, and once (c b), (c c), (begin b), (begin c). So n1 = 4, n2 = n3 = 1;
    Y = 2/3; D2 = 2 - 3Y = 0, so the discounts are the fallback 1/2, 1, 3/2.
        After b: total 5, gamma = (3/2 + 1)/5 = 1/2. P(b|b) = (3-3/2)/5 + P(b)/2; P(</s>|b) = (2-1)/5 + P(</s>)/2.
        After c: total 2, gamma = (1/2 + 1/2)/2 = 1/2. P(b|c) = (1-1/2)/2 + P(b)/2, and P(c|c) likewise.
        At the beginning: as after c.
        After </s> a sentence begins. After a, never seen, the unigrams stand.
    """
    model = KneserNey.fit([C, C, B, END, B, B, B, B, END], num_words=4, end_ids=[END], order=2)
    begins = exactly(13, 36 + 13, 36 + 25, 21, of=144)
    assert model.num_ngrams == (3, 6)
    np.testing.assert_allclose(model.distribution([]), exactly(13, 13, 25, 21, of=72), **CLOSE)
    np.testing.assert_allclose(model.distribution([A]), exactly(13, 13, 25, 21, of=72), **CLOSE)
    np.testing.assert_allclose(model.distribution([B]), exactly(65, 216 + 65, 125, 144 + 105, of=720), **CLOSE)
    np.testing.assert_allclose(model.distribution([C]), begins, **CLOSE)
    np.testing.assert_allclose(model.distribution([], sentence_start=True), begins, **CLOSE)
    np.testing.assert_allclose(model.distribution([B, END]), begins, **CLOSE)
    likelihoods = [begins[B], 281 / 720, 249 / 720, begins[C]]
    np.testing.assert_allclose(model.log_probabilities([B, B, END, C]), np.log(likelihoods), **CLOSE)


def test_trigrams_worked_by_hand():
    """The text is "a b </s> a a b </s> a b </s>"; the word c is not in it, so V = 4.

    Unigrams, by words before: a two (begin, a), b one (a), </s> one (b); n3 = 0, so the discounts are the fallback 1/2,
    1, 3/2, gamma = (1 + 1/2 + 1/2)/4 = 1/2 and gamma/V = 1/8.
        P(a) = (2-1)/4 + 1/8 = 3/8; P(b) = (1-1/2)/4 + 1/8 = 1/4 = P(</s>); P(c) = 1/8.

    Bigrams, by words before: (a a) one (begin), (a b) two (begin, a), (b </s>) one (a); (begin a) begins a sentence and
    keeps its raw count of 3. n1 = 2, n2 = n3 = 1; Y = 2/4; D1 = 1 - 2Y/2 = 1/2; D2 = 2 - 3Y = 1/2; D3+ = 3.
        After a: total 3, gamma = (1/2 + 1/2)/3 = 1/3. P(a|a) = (1/2)/3 + (3/8)/3 = 7/24;
        P(b|a) = (3/2)/3 + (1/4)/3 = 7/12; P(</s>|a) = (1/4)/3 = 1/12; P(c|a) = (1/8)/3 = 1/24.
        After b: total 1, gamma = 1/2. P(</s>|b) = 1/2 + (1/4)/2 = 5/8.
        At the beginning: total 3, gamma = 3/3 = 1, all goes to the unigrams.

    Trigrams, by how often: (a b </s>) 3, (begin a b) 2, (begin a a) 1, (a a b) 1: the same discounts.
        After begin a: total 3, gamma = 1/3. P(a|begin a) = (1/2)/3 + (7/24)/3 = 19/72;
        P(b|begin a) = (3/2)/3 + (7/12)/3 = 50/72; P(</s>|begin a) = (1/12)/3 = 2/72; P(c|begin a) = (1/24)/3 = 1/72.
        After a a: total 1, gamma = 1/2. P(b|a a) = 1/2 + (7/12)/2 = 19/24.
        After a b: total 3, gamma = 3/3 = 1. P(</s>|a b) = 0 + P(</s>|b) = 5/8.
    """
    model = KneserNey.fit([A, B, END, A, A, B, END, A, B, END], num_words=4, end_ids=[END], order=3)
    assert model.num_ngrams == (3, 4, 4)
    np.testing.assert_allclose(model.distribution([]), exactly(3, 2, 1, 2, of=8), **CLOSE)
    np.testing.assert_allclose(model.distribution([], sentence_start=True), exactly(3, 2, 1, 2, of=8), **CLOSE)
    np.testing.assert_allclose(model.distribution([A]), exactly(7, 14, 1, 2, of=24), **CLOSE)
    np.testing.assert_allclose(model.distribution([END, A]), exactly(19, 50, 1, 2, of=72), **CLOSE)
    likelihoods = exactly(27, 19, 57, 45, of=72)  # 3/8, 19/72, 19/24, 5/8
    np.testing.assert_allclose(model.log_probabilities([A, A, B, END]), np.log(likelihoods), **CLOSE)


@settings(deadline=None, max_examples=200)
@given(corpora(), st.data())
@example(([0], {"num_words": 1, "end_ids": [0], "order": 5}), None)  # one word, which is the end
@example(([0], {"num_words": 3, "end_ids": [], "order": 5}), None)
@example(([1, 0], {"num_words": 2, "end_ids": [0], "order": 5}), None)  # one sentence of one word
@example(([2, 0, 1, 2, 0], {"num_words": 3, "end_ids": [0, 1], "order": 3}), None)  # an empty sentence
def test_it_is_the_plain_model(corpus, data):
    ids, choices = corpus
    text = ids if data is None else data.draw(rows(choices["num_words"], 12), "text")
    fast, plain = KneserNey.fit(ids, **choices), PlainKneserNey(ids, **choices)
    expected = [plain.after(text[:place], sentence_start=True)[word] for place, word in enumerate(text)]
    np.testing.assert_allclose(np.exp(fast.log_probabilities(text)), expected, **CLOSE)
    for place in range(len(text) + 1):
        np.testing.assert_allclose(fast.distribution(text[:place]), plain.after(text[:place]), **CLOSE)


@settings(deadline=None)
@given(corpora(), st.data())
def test_probabilities_are_above_zero_and_sum_to_one(corpus, data):
    ids, choices = corpus
    model = KneserNey.fit(ids, **choices)
    probabilities = model.distribution(data.draw(rows(choices["num_words"])), sentence_start=data.draw(st.booleans()))
    assert probabilities.shape == (choices["num_words"],)
    assert probabilities.min() > 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-9)


@settings(deadline=None)
@given(corpora(), st.data())
def test_a_text_is_scored_as_its_distributions_say(corpus, data):
    ids, choices = corpus
    model = KneserNey.fit(ids, **choices)
    text = data.draw(rows(choices["num_words"], 20))
    expected = [model.distribution(text[:i], sentence_start=True)[word] for i, word in enumerate(text)]
    np.testing.assert_allclose(np.exp(model.log_probabilities(text)), expected, **CLOSE)


@settings(deadline=None)
@given(corpora(), st.data())
def test_fill_is_the_likelihood_of_the_whole(corpus, data):
    ids, choices = corpus
    model = KneserNey.fit(ids, **choices)
    left, right = data.draw(rows(choices["num_words"])), data.draw(rows(choices["num_words"]))
    sentence_start = data.draw(st.booleans())
    rescored = right[: choices["order"] - 1]

    def likelihood(word):
        text = [*left, word, *rescored]
        places = range(len(left), len(text))
        return sum(np.log(model.distribution(text[:i], sentence_start=sentence_start)[text[i]]) for i in places)

    expected = [likelihood(word) for word in range(choices["num_words"])]
    np.testing.assert_allclose(model.fill(left, right, sentence_start=sentence_start), expected, rtol=1e-12, atol=1e-10)


def random_text(num_words, length, seed=0):
    """Frequent and rare words, with the end id 0."""
    return np.random.default_rng(seed).zipf(1.3, 10 * length) % num_words


def test_fill_orders_words_as_the_whole_sentence_does():
    text = random_text(30, 400)[:400]
    model = KneserNey.fit(text, num_words=30, end_ids=[0], order=4)
    left, right = [3, 1, 2], [1, 2, 1, 3, 2, 1, 0]
    whole = [model.log_probabilities([*left, word, *right]).sum() for word in range(30)]
    scores = model.fill(left, right, sentence_start=True)
    np.testing.assert_allclose(scores - scores.max(), np.array(whole) - max(whole), rtol=0, atol=1e-10)


def test_limited_fill_rescores_the_likeliest():
    num_words = 2 * MINIMUM_CANDIDATES
    model = KneserNey.fit(random_text(num_words, 5000), num_words=num_words, end_ids=[0])
    left, right = [7, 3], [1, 2, 0]
    exact, limited = model.fill(left, right), model.fill(left, right, candidates=MINIMUM_CANDIDATES)
    rescored = np.isfinite(limited)
    assert rescored.sum() == MINIMUM_CANDIDATES
    np.testing.assert_array_equal(limited[rescored], exact[rescored])
    left_alone = model.distribution(left)
    assert left_alone[rescored].min() >= left_alone[~rescored].max()
    np.testing.assert_array_equal(model.fill(left, right, candidates=num_words + 1), exact)


def test_a_sentence_owes_nothing_to_the_one_before():
    model = KneserNey.fit(random_text(20, 500), num_words=20, end_ids=[0, 5])
    first, second = [1, 2, 3, 0], [2, 1, 5]
    apart = [*model.log_probabilities(first), *model.log_probabilities(second)]
    np.testing.assert_array_equal(model.log_probabilities([*first, *second]), apart)
    for word in range(20):  # a context is cut at the last end, and what stands before never counts
        np.testing.assert_array_equal(
            model.distribution([word, 5, 2, 1]), model.distribution([2, 1], sentence_start=True)
        )


def test_only_the_last_words_of_a_context_count():
    model = KneserNey.fit(random_text(20, 500), num_words=20, end_ids=[0], order=3)
    long = [4, 3, 2, 1]
    np.testing.assert_array_equal(model.distribution(long), model.distribution([2, 1]))
    np.testing.assert_array_equal(model.distribution(long, sentence_start=True), model.distribution([2, 1]))
    assert not np.array_equal(model.distribution([1], sentence_start=True), model.distribution([1]))


def test_a_word_never_seen_leaves_what_is_known_of_the_others():
    model = KneserNey.fit([0, 1, 2, 0, 1, 2], num_words=5, end_ids=[2], order=3)
    np.testing.assert_array_equal(model.distribution([3]), model.distribution([]))
    np.testing.assert_array_equal(model.distribution([3, 0]), model.distribution([0]))
    assert model.distribution([0])[3] == model.distribution([0])[4] > 0


@pytest.mark.parametrize("order", [1, 2, 5])
def test_saved_and_loaded_it_gives_the_same_numbers(tmp_path, order):
    text = random_text(50, 200)
    model = KneserNey.fit(text, num_words=50, end_ids=[0, 7], order=order)
    model.save(tmp_path / "model.safetensors")
    loaded = KneserNey.load(tmp_path / "model.safetensors")
    assert (loaded.order, loaded.num_words, loaded.end_ids) == (order, 50, (0, 7))
    assert loaded.num_ngrams == model.num_ngrams
    np.testing.assert_array_equal(loaded.log_probabilities(text), model.log_probabilities(text))
    np.testing.assert_array_equal(loaded.fill([3, 1], [1, 0]), model.fill([3, 1], [1, 0]))


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(RunError, match="cannot read the n-gram model"):
        KneserNey.load(path)
    KneserNey.fit([0, 1, 2], num_words=3, end_ids=[2]).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match="cannot read the n-gram model"):
            KneserNey.load(path)
    path.write_bytes(whole.replace(b"throughtime.kneser-ney.1", b"throughtime.kneser-ney.0"))
    with pytest.raises(RunError, match="holds no n-gram model"):
        KneserNey.load(path)
    with pytest.raises(RunError, match="cannot write"):
        KneserNey.fit([0, 1, 2], num_words=3, end_ids=[2]).save(tmp_path / "absent" / "model.safetensors")


def test_it_reads_a_memory_mapped_text(tmp_path):
    text = random_text(50, 200).astype(np.uint16)
    text.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", dtype=np.uint16, mode="r")
    model, expected = (KneserNey.fit(ids, num_words=50, end_ids=[0]) for ids in (mapped, text.tolist()))
    np.testing.assert_array_equal(model.log_probabilities(mapped), expected.log_probabilities(text.tolist()))
    assert model.num_ngrams == expected.num_ngrams


def test_order_and_vocabulary_may_be_large():
    """Keys of n-grams are packed into 64 bits; here the product of five vocabularies would not fit them."""
    num_words = 1_000_003
    ids = [num_words - 1, num_words - 2, num_words - 3, 0] * 3
    model = KneserNey.fit(ids, num_words=num_words, end_ids=[0], order=9)
    assert model.num_ngrams == (4, 4, 3, 2, 1, 0, 0, 0, 0)  # (begin x), (x y), (y z), (z </s>), then one fewer an order
    assert model.distribution(ids[:3], sentence_start=True).argmax() == 0
    assert model.distribution([]).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("ids", "choices", "error", "message"),
    [
        ([], {}, InputError, "the text is empty"),
        ([0, 3], {}, InputError, "holds the id 3, outside the vocabulary of 3 words"),
        ([0, -1], {}, InputError, "holds the id -1"),
        ([0.5], {}, InputError, "must be a row of word ids, not float64"),
        ([[0, 1]], {}, InputError, "of shape"),
        ([0], {"end_ids": [3]}, InputError, "the list of sentence ends holds the id 3"),
        ([0], {"order": 0}, RecipeError, "order of an n-gram model must be at least 1, not 0"),
        ([0], {"num_words": 0}, RecipeError, "number of words must be at least 1"),
    ],
)
def test_mistakes_are_named_in_one_line(ids, choices, error, message):
    with pytest.raises(error, match=message) as caught:
        KneserNey.fit(ids, **{"num_words": 3, "end_ids": [2], **choices})
    assert "\n" not in str(caught.value)


def test_mistakes_in_prediction_are_named():
    model = KneserNey.fit([0, 1, 2], num_words=3, end_ids=[2])
    calls = [lambda: model.distribution([3]), lambda: model.log_probabilities([3]), lambda: model.fill([0], [3])]
    for call in calls:
        with pytest.raises(InputError, match="holds the id 3, outside the vocabulary of 3 words"):
            call()
    with pytest.raises(RecipeError, match=f"must be at least {MINIMUM_CANDIDATES}, not 5"):
        model.fill([0], [1], candidates=5)


def test_all_texts_of_a_length_have_probability_one_together():
    """The chain rule over all texts of three words, ends of sentences included."""
    model = KneserNey.fit([0, 1, 2, 1, 1, 2], num_words=3, end_ids=[2], order=3)
    total = sum(np.exp(model.log_probabilities(text).sum()) for text in itertools.product(range(3), repeat=3))
    assert total == pytest.approx(1, abs=1e-12)
