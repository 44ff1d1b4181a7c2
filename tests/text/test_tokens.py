from hypothesis import example, given, settings
from hypothesis import strategies as st

from throughtime.text.tokens import BLANK, MAX_TOKEN, PARAGRAPH_END, SENTENCE_END, UNKNOWN, detokenise, tokenise

MIXED = st.text(
    st.sampled_from("ab Z.,-'\"()1٣é\u0301\u200d\ufe0f👩🚀🇫🇩日の नि_/$%…“”’—\n\t") | st.characters(), max_size=80
)


@settings(max_examples=400, deadline=None)
@given(MIXED)
@example("a" * 300 + "-b" * 300)
@example("9,9" * 200)
def test_round_trip_keeps_every_token(text):
    tokens = tokenise(text)
    assert tokenise(detokenise(tokens)) == tokens
    assert all(tokenise(token) == [token] for token in tokens)
    assert all(len(token) <= MAX_TOKEN for token in tokens)
    assert "".join(tokens) == "".join(text.split())


def test_words_keep_their_apostrophes_hyphens_and_figures():
    text = "The dogs' mother-in-law didn’t pay 3.14 or 1,000 in 1990-95 — UTF-8!"
    expected = ["The", "dogs", "'", "mother-in-law", "didn’t", "pay", "3.14", "or", "1,000", "in"]
    assert tokenise(text) == [*expected, "1990", "-", "95", "—", "UTF-8", "!"]


def test_combining_marks_emoji_and_other_scripts():
    text = "e\u0301te\u0301 नमस्ते שָׁלוֹם می\u200cخواهم 👩\u200d🚀👍🏽 🇫🇷🇩🇪 1\ufe0f\u20e3 日本"
    expected = [
        "e\u0301te\u0301",
        "नमस्ते",
        "שָׁלוֹם",
        "می\u200cخواهم",
        "👩\u200d🚀",
        "👍🏽",
        "🇫🇷",
        "🇩🇪",
        "1\ufe0f\u20e3",
        "日",
        "本",
    ]
    assert tokenise(text) == expected
    assert detokenise(tokenise("日本語。")) == "日本語。"


def test_markers_in_a_text_fall_to_pieces():
    for marker in (SENTENCE_END, PARAGRAPH_END, UNKNOWN, BLANK):
        assert marker not in tokenise(f"a {marker} b{marker}c")


def test_detokenise_sets_punctuation_as_people_do():
    for text in (
        'He said, "No!" (twice), and left.',
        "The U.S.A. and/or 10-20 others: “yes”, ‘no’; 50% of $3.",
        "It's the dogs' 'own' bone... isn't it?",
        "os_path is a name",
    ):
        assert detokenise(tokenise(text)) == text


def test_detokenise_reads_markers():
    tokens = ["Go", ".", SENTENCE_END, "The", UNKNOWN, ",", BLANK, ".", PARAGRAPH_END, "End", PARAGRAPH_END]
    assert detokenise(tokens) == "Go. The <unk>, ___.\n\nEnd"
    assert detokenise([]) == ""
