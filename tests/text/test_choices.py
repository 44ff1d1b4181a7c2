import pytest

from throughtime.errors import RecipeError
from throughtime.text.choices import TextChoices


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
        ({"encoding": "base64"}, "unknown encoding 'base64'"),
        ({"errors": "replce"}, "unknown way to treat errors 'replce': did you mean 'replace'?"),
        ({"min_count": 0}, "min_count must be at least 1, not 0"),
        ({"max_words": 0}, "max_words must be at least 1"),
        ({"max_bytes": 0}, "max_bytes must be at least 1"),
        ({"tokenised": True}, "a tokenised text must be named"),
        ({"paths": 3}, "paths must be a tuple of paths, not int"),
    ],
)
def test_wrong_choices(choices, message):
    with pytest.raises(RecipeError) as caught:
        TextChoices(**choices)
    assert str(caught.value).startswith(message)


def test_a_single_path_is_as_good_as_a_tuple():
    assert TextChoices(paths="a.txt").paths == TextChoices(paths=["a.txt"]).paths == ("a.txt",)
    assert TextChoices(encoding="utf-16").encoding == "utf-16"
