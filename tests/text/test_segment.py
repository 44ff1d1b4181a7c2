import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.text.segment import MAX_SENTENCE, sentences, split_lines
from throughtime.text.tokens import MAX_TOKEN, PARAGRAPH_END, SENTENCE_END, tokenise

TEXTS = st.text(st.sampled_from("aB1 .!?\"')(\n-…é\u0301👩\u200d日。"), max_size=60)
BLOCK = 1 << 16


def cut(text, sizes):
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(text):
            return
        yield text[start : start + size]
        start += size


def ends(text):
    return ["".join(sentence) for sentence in sentences(text)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(TEXTS, min_size=1, max_size=3), st.lists(st.integers(1000, 90_000), min_size=1, max_size=5), st.booleans()
)
def test_chunks_do_not_matter(pieces, sizes, spaced):
    filler = ("word " if spaced else "word") * (BLOCK // 4)  # beyond the block at which the stream is cut
    text = filler.join(pieces) + pieces[0]
    whole = list(sentences(text))
    assert list(sentences(cut(text, sizes))) == whole
    assert [token for sentence in whole for token in sentence[:-1]] == tokenise(text)
    flat = list(itertools.chain.from_iterable(split_lines(text)))
    assert list(itertools.chain.from_iterable(split_lines(cut(text, sizes)))) == flat


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_single_characters_give_the_same_sentences(text):
    assert list(sentences(iter(text))) == list(sentences(text))


def test_sentence_ends():
    assert ends('He ran. "Stop!" she said. Then... (He did.) So') == [
        "Heran.</s>",
        '"Stop!"shesaid.</s>',
        "Then...</s>",
        "(Hedid.)</s>",
        "So</p>",
    ]


@pytest.mark.parametrize("text", ["Mr. Smith and J. K. Rowling", "see e.g. Bengio", "at No. 5", "3.14 Is", "so. but"])
def test_no_sentence_end(text):
    assert len(list(sentences(text))) == 1


def test_paragraphs_end_at_empty_lines_only():
    assert ends("CHAPTER I\n \t\nIt was\nso.\n\n\n\nEnd\n") == ["CHAPTERI</p>", "Itwasso.</p>", "End</p>"]
    assert ends("") == ends(" \n\n ") == []


def test_a_sentence_without_end_is_cut():
    lengths = [len(sentence) for sentence in sentences("word " * (2 * MAX_SENTENCE + 7))]
    assert lengths == [MAX_SENTENCE + 1, MAX_SENTENCE + 1, 8]


def test_lines_are_taken_as_they_are():
    text = "the <unk> 's  --\n\na</s> b"
    assert list(split_lines(text)) == [["the", "<unk>", "'s", "--", SENTENCE_END], ["a</s>", "b", SENTENCE_END]]
    assert list(split_lines(text + "\n")) == list(split_lines(text))


@pytest.mark.parametrize("unit", ["a", "a ", "\t", "-", ") "])
@pytest.mark.parametrize("split", [sentences, split_lines])
def test_one_huge_line_needs_bounded_memory(unit, split):
    chunk = unit * ((1 << 18) // len(unit))
    num_chunks = 120 if unit == "a" else 3
    tracemalloc.start()
    try:
        num_tokens = sum(map(len, split(itertools.repeat(chunk, num_chunks))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25_000_000
    assert (num_tokens > num_chunks * len(chunk) // MAX_TOKEN) == (unit != "\t" or split is split_lines)


def test_the_last_sentence_ends_a_paragraph():
    assert [sentence[-1] for sentence in sentences("Aa b. Cc d.")] == [SENTENCE_END, PARAGRAPH_END]
