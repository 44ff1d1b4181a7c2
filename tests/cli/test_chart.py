"""Curves drawn with characters."""

from __future__ import annotations

from throughtime.cli.chart import drawn
from throughtime.workflow import Chart, Curve


def lines(chart: Chart, width: int = 50) -> list[str]:
    return drawn(chart, width).plain.split("\n")


def test_a_rising_line_rises() -> None:
    found = lines(Chart("steps", "loss", (Curve("a", (0, 1, 2), (0.0, 1.0, 2.0)),)))
    assert found[0] == "loss"
    picture = [line[10:] for line in found[1:13]]
    ends = [picture[0].rindex("o"), picture[-1].index("o")]
    assert ends == [39, 0]
    assert found[1].startswith("       2 |")
    assert found[12].startswith("       0 |")
    assert found[-1].strip() == "o a"
    assert all(len(line) <= 50 for line in found)


def test_a_logarithmic_axis_puts_ten_in_the_middle() -> None:
    chart = Chart("steps", "y", (Curve("a", (1, 10, 100), (0.0, 1.0, 0.0)),), log_x=True, joined=False)
    found = lines(chart)
    assert found[1].index("o") == 10 + 20
    assert "1 " in found[14]
    assert "steps, logarithmic" in found[14]
    assert found[14].endswith("100")


def test_points_are_not_joined_and_gaps_are_left_out() -> None:
    found = lines(Chart("x", "y", (Curve("a", (0, 1, 2), (0.0, None, 1.0)),), joined=False))
    assert sum(line.count("o") for line in found[1:13]) == 2


def test_each_curve_has_a_mark_of_its_own() -> None:
    found = lines(Chart("x", "y", (Curve("a", (0, 1), (0.0, 0.0)), Curve("b", (0, 1), (1.0, 1.0)))))
    assert "x" in found[1]
    assert "o" in found[12]
    assert found[-2].strip() == "o a"
    assert found[-1].strip() == "x b"


def test_what_has_no_point_is_said() -> None:
    assert lines(Chart("x", "gradient", (Curve("a", (0,), (None,)),))) == ["gradient: nothing to draw"]
