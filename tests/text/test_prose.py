import pytest

from throughtime.text.prose import paragraphs

DOCSTRING = """Sort the items of the list in place, with the function :func:`~functools.cmp_to_key`.

    The sort is stable, which means that equal items keep their order::

        >>> sort([3, 1])
        code that is dropped

    .. note:: This takes the time of the longest of them.

    .. math::
        x = \\frac{a}{b} is a thing of the kind we do not want

    ======  =====
    column  other
    ======  =====

    Args:
        key (Callable, optional): The function that is applied to each of the items.
        reverse: whether the order is to be reversed at the end.

    Returns:
        The list that was given to it.

    Example::

        The words in an example are dropped, if they are indented.

    ```python
    this is the code in a fence
    ```
    * The first of the bullets is here.
    sort(a, b=None, *, c) -> list
"""


def test_sentences_are_kept_and_code_is_dropped():
    assert list(paragraphs(DOCSTRING)) == [
        "Sort the items of the list in place, with the function cmp_to_key.",
        "The sort is stable, which means that equal items keep their order:",
        "This takes the time of the longest of them.",
        "The function that is applied to each of the items.",
        "whether the order is to be reversed at the end.",
        "The list that was given to it.",
        "The first of the bullets is here.",
    ]


@pytest.mark.parametrize(
    "text", ["", "f(x) -> y", ">>> a = 1\n1", "Too short.", "======", "a=1, b=2, c=3, d=4 in the e"]
)
def test_nothing_to_keep(text):
    assert list(paragraphs(text)) == []


def test_a_code_like_sentence_does_not_take_its_paragraph_with_it():
    text = "This is the first of the sentences. Call f(x) -> y for the value. This is the last of them."
    assert list(paragraphs(text)) == ["This is the first of the sentences. This is the last of them."]
