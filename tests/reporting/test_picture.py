"""Tables of a page."""

from __future__ import annotations

import re

from throughtime.reporting.picture import Table, table_html


def test_columns_of_numbers_stand_to_the_right_with_their_gaps() -> None:
    rows = (("a <b>", 1234, None, "12.5 %"), ("c", None, None, None))
    html = table_html(Table(("name", "count", "nothing", "share"), rows))
    assert re.findall(r'<th scope="col"( class="number")?>(\w+)<', html) == [
        ("", "name"),
        (' class="number"', "count"),
        ("", "nothing"),
        (' class="number"', "share"),
    ]
    assert "<td>a &lt;b&gt;</td>" in html
    assert '<td class="number">1,234</td>' in html
    assert html.count('<td class="number">–</td>') == 2
    assert html.count("<td>–</td>") == 2


def test_amounts_are_numbers_and_long_text_has_room() -> None:
    text = "the recurrent weights contract: an orthogonal matrix does not"
    html = table_html(Table(("time", "sentence", "why"), (("1.21 x", "we go at 5 x", text),)))
    assert re.findall(r'<td( class="\w+")?>', html) == [' class="number"', "", ' class="long"']


def test_a_table_without_rows_has_its_headings() -> None:
    assert '<th scope="col">name</th>' in table_html(Table(("name",), ()))
