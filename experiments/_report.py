"""What reports share: intervals, numbers as words, and the page that opens offline."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2
from scipy import stats

from experiments._study import write_whole

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
         color: #1a1a1a; background: #fff; }
  h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; }
  img { width: 100%; height: auto; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd;
           white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; }
  li { margin: .4rem 0; } footer { margin: 2rem 0; color: #555; font-size: .9rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ lead }}</p>
<h2>Findings</h2>
<ul>{% for finding in findings %}
  <li>{{ finding }}</li>{% endfor %}
</ul>
<img alt="{{ alt }}" src="data:image/png;base64,{{ picture }}">
{% for table in tables %}
<h2>{{ table.title }}</h2>
<div class="scroll"><table>
<thead><tr>{% for name in table.head %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>
{% endfor %}
<footer>{{ footer }}</footer>
</body>
</html>
"""


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, k of n."""
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def words(items: list[str]) -> str:
    """Join items as a sentence does: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def short(value: float) -> str:
    """Write a number with two digits that count."""
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{float(f'{value:.2g}'):g}" if plain else f"{value:.0e}"


def write_page(path: Path, picture: Path, **content: Any) -> None:
    """Write a page that holds everything it shows."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    encoded = base64.b64encode(picture.read_bytes()).decode()
    write_whole(path, environment.from_string(_PAGE).render(picture=encoded, **content))
