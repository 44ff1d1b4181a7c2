import numpy as np
import pytest

from throughtime.errors import InputError, RunError
from throughtime.text.vocabulary import Vocabulary

WORDS = ("<unk>", "</s>", "</p>", "the", "naïve")


def test_encode_and_decode():
    vocabulary = Vocabulary(WORDS, (1, 2, 3, 4, 5))
    ids = vocabulary.encode(["the", "dog", "</p>"])
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 0, 2]
    assert vocabulary.decode(ids) == ["the", "<unk>", "</p>"]
    assert (len(vocabulary), vocabulary.unknown_id, vocabulary.end_ids) == (5, 0, (1, 2))
    assert "naïve" in vocabulary
    assert "dog" not in vocabulary
    assert Vocabulary(("<unk>", "</s>", "the")).end_ids == (1,)


def test_save_and_load(tmp_path):
    vocabulary = Vocabulary(WORDS, (1, 2, 3, 4, 5))
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize(
    ("words", "counts", "message"),
    [
        (("the",), (), "start with <unk> and </s>"),
        (("<unk>", "</s>", "a", "a"), (), "some are there twice"),
        (WORDS, (1,), "5 words need as many counts or none, not 1"),
    ],
)
def test_wrong_words(words, counts, message):
    with pytest.raises(InputError, match=message):
        Vocabulary(words, counts)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"words": []}',
        '{"schema_version": 9, "words": [], "counts": []}',
        "3",
        '{"schema_version": 1, "words": ["a"], "counts": [1]}',
    ],
)
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(RunError, match="cannot read"):
        Vocabulary.load(tmp_path / "none.json")
