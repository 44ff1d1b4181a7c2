import io
import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from throughtime.errors import InputError, RunError
from throughtime.text.choices import TextChoices
from throughtime.text.corpus import encode_text, open_corpus, prepare
from throughtime.text.numbering import number_texts, open_texts
from throughtime.text.segment import sentences

NOVELS = Path(__file__).parents[2] / "../shared/data/gutenberg-novels"
STORY = "".join(f"The man number {i} sat down. He lit pipe {i % 7} and said nothing.\n\n" for i in range(200))


def corpus_of(text, tmp_path, min_train_words=2, **choices):
    path = tmp_path / "book.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return prepare(TextChoices(paths=(str(path),), **choices), tmp_path / "corpus", min_train_words=min_train_words)


def tokens_of(corpus):
    return [corpus.vocabulary.decode(part) for part in (corpus.train, corpus.valid, corpus.test)]


def test_the_split_is_three_blocks_in_the_order_of_the_text(tmp_path):
    corpus = corpus_of(STORY, tmp_path, min_count=1)
    parts = tokens_of(corpus)
    expected = list(itertools.chain.from_iterable(sentences(STORY)))
    known = [word if word in corpus.vocabulary else "<unk>" for word in expected]
    assert list(itertools.chain.from_iterable(parts)) == known
    assert all(part[-1] in ("</s>", "</p>") for part in parts)
    assert [round(len(part) / len(expected), 2) for part in parts] == [0.9, 0.05, 0.05]
    assert corpus.description["split"] == "contiguous blocks of 90, 5 and 5 %"


def test_the_vocabulary_is_of_the_training_part_alone(tmp_path):
    corpus = corpus_of(STORY, tmp_path, min_count=1)
    assert "5" in corpus.vocabulary
    assert "199" not in corpus.vocabulary
    train = Counter(tokens_of(corpus)[0])
    assert dict(zip(corpus.vocabulary.words, corpus.vocabulary.counts, strict=True)) == {"<unk>": 0, **train}
    assert corpus.unknown_rate["train"] == 0
    words = [word for word in tokens_of(corpus)[2] if word not in ("</s>", "</p>")]
    assert corpus.unknown_rate["test"] == words.count("<unk>") / len(words) > 0


def test_words_are_ranked_by_count_then_alphabet_and_limited(tmp_path):
    corpus = corpus_of("b a c c rare. " + "b a c. " * 30, tmp_path, max_words=3)
    assert corpus.vocabulary.words == ("<unk>", "</s>", "</p>", "c", ".", "a")
    assert sum(corpus.vocabulary.counts) == len(corpus.train)
    assert corpus.vocabulary.counts[0] == np.count_nonzero(corpus.train == 0)


def test_lower_and_distinct_words(tmp_path):
    corpus = corpus_of("The the THE cat. " * 20, tmp_path, lower=True)
    assert corpus.lower
    assert corpus.vocabulary.words[3:] == ("the", ".", "cat")
    assert corpus.description["distinct_words"] == 3


@pytest.mark.parametrize(("num_words", "dtype"), [(65_000, np.uint16), (65_600, np.uint32)])
def test_ids_are_as_small_as_they_can_be(tmp_path, num_words, dtype):
    words = [f"w{i}" for i in range(num_words)]
    corpus = corpus_of(" ".join(words + words[:9000]), tmp_path, min_count=1, max_words=100_000, tokenised=True)
    assert corpus.train.dtype == dtype
    assert corpus.vocabulary.decode(corpus.train[:3]) == words[:3]
    assert corpus.vocabulary.end_ids == (1,)


@pytest.mark.parametrize("limit", [{"max_distinct": 5}, {"max_characters": 2}])
def test_beyond_the_limit_new_words_are_unknown(tmp_path, limit):
    path = tmp_path / "book.txt"
    path.write_text("a b c d a b e")
    choices = TextChoices(paths=(str(path),))
    numbers = number_texts(open_texts(choices, None), choices, tmp_path / "numbers", **limit)
    assert np.fromfile(tmp_path / "numbers", np.uint32).tolist() == [3, 4, 0, 0, 3, 4, 0, 2]
    assert numbers.words == ["<unk>", "</s>", "</p>", "a", "b"]


def test_a_given_split_is_kept(tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    for part, words in (("train", "a b c"), ("valid", "b x"), ("test", "c y z")):
        (folder / f"{part}.tok").write_text(f"{words}\n")
    corpus = prepare(TextChoices(paths=(str(folder),), tokenised=True, min_count=1), tmp_path / "corpus")
    expected = [["a", "b", "c", "</s>"], ["b", "<unk>", "</s>"], ["c", "<unk>", "<unk>", "</s>"]]
    assert tokens_of(corpus) == expected
    assert corpus.description["split"] == "by file"


def test_the_hash_tells_content_and_nothing_else(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    one = corpus_of(STORY, tmp_path / "one")
    assert corpus_of("\ufeff" + STORY.replace("\n", "\r\n").rstrip(), tmp_path / "two").hash == one.hash
    assert corpus_of(STORY + "More.", tmp_path / "three").hash != one.hash


@pytest.mark.parametrize("name", ["train.ids", "valid.ids", "test.ids", "vocabulary.json", "corpus.json"])
def test_damage_is_found(tmp_path, name):
    corpus = corpus_of(STORY, tmp_path)
    path = corpus.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x81
    path.write_bytes(data)
    if name == "corpus.json":
        path.write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(RunError, match="damaged"):
        open_corpus(corpus.folder)
    path.unlink()
    with pytest.raises(RunError, match="cannot read"):
        open_corpus(corpus.folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty: .* holds no word"),
        ("\ufeff \n\n\t", "the text is empty"),
        ("Too short.", r"the text is too short: of its 4 words and punctuation marks 4 are in the train part"),
        ("A little longer. " * 20, "at least 100 are needed there; give more text"),
        (b"\xff\xfe\x00", "starts with the mark of utf-16"),
    ],
)
def test_too_little_or_no_text_leaves_nothing(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        corpus_of(text, tmp_path, min_train_words=100)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["book.txt"]


def test_a_text_of_unknown_words_is_a_text(tmp_path):
    corpus = corpus_of(" ".join(f"w{i}" for i in range(100)), tmp_path)
    assert len(corpus.vocabulary) == 3
    assert corpus.unknown_rate["train"] == 1


def test_standard_input_and_replacements(tmp_path):
    choices = TextChoices(paths=("-",), errors="replace")
    corpus = prepare(choices, tmp_path / "corpus", standard_input=io.BytesIO(STORY.encode() + b"\xff\xff."))
    assert corpus.description["num_replacements"] == 2
    assert corpus.description["sources"][0]["name"] == "standard input"
    encoded = encode_text(choices, corpus.vocabulary, standard_input=io.BytesIO(b"The man \xff sat."))
    assert corpus.vocabulary.decode(encoded.ids) == ["The", "man", "<unk>", "sat", ".", "</p>"]
    assert (encoded.num_words, encoded.unknown_rate, encoded.num_replacements) == (5, 0.2, 1)


def test_encode_text_needs_a_word_and_knows_the_ends_of_the_vocabulary(tmp_path):
    path = tmp_path / "new.txt"
    corpus = corpus_of("a b .\n" * 50, tmp_path, tokenised=True)
    path.write_text("a b.\n\nb a.")
    encoded = encode_text(TextChoices(paths=(str(path),)), corpus.vocabulary)
    assert corpus.vocabulary.decode(encoded.ids) == ["a", "b", ".", "</s>", "b", "a", ".", "</s>"]
    path.write_text("")
    with pytest.raises(InputError, match="the text is empty"):
        encode_text(TextChoices(paths=(str(path),)), corpus.vocabulary)


RANDOM_BYTES = st.binary(max_size=300) | st.builds(
    bytes.join,
    st.sampled_from([b" ", b"\n", b".\n\n"]),
    st.lists(st.binary(max_size=4) | st.just(b"Word."), max_size=90),
)


@settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    data=RANDOM_BYTES,
    encoding=st.sampled_from(["utf-8", "utf-8", "latin-1", "utf-16", "utf-7", "cp1252", "shift_jis"]),
    errors=st.sampled_from(["strict", "replace"]),
    lower=st.booleans(),
    tokenised=st.booleans(),
)
def test_random_bytes_are_a_corpus_or_an_input_error(data, encoding, errors, lower, tokenised):
    choices = TextChoices(paths=("-",), encoding=encoding, errors=errors, lower=lower, tokenised=tokenised)
    with tempfile.TemporaryDirectory() as folder:
        try:
            corpus = prepare(choices, Path(folder) / "corpus", standard_input=io.BytesIO(data))
        except InputError as error:
            message = str(error)
        else:
            message = ""
            assert all(int(part.max()) < len(corpus.vocabulary) for part in (corpus.train, corpus.valid, corpus.test))
        assert "\n" not in message
        assert [path.name for path in Path(folder).iterdir()] == ([] if message else ["corpus"])


@pytest.mark.skipif(not NOVELS.is_dir(), reason="the measuring data is not here")
def test_the_tokenised_novels_have_the_published_counts(tmp_path):
    corpus = prepare(TextChoices(paths=(str(NOVELS),), tokenised=True, min_count=1), tmp_path / "corpus")
    assert corpus.description["parts"]["train"]["num_words"] == 2_456_400
    assert corpus.description["distinct_words"] == 19_080
    assert len(corpus.vocabulary) == 19_081
    assert corpus.train.dtype == np.uint16
