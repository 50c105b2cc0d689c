"""A page for each study that was run in full, and a card for it: from experiments/results."""

import json
import re
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
CARD = """\
:::{{grid-item-card}} {title}
:link: {name}
:link-type: doc
:img-top: {picture}
:img-alt: {title}

{verdicts}
:::
"""


def write(app):
    """Write `gallery/NAME.md` from the results of a study, and `gallery/cards.txt`."""
    out, cards = Path(app.srcdir) / "gallery", []
    for folder in sorted(path.parent for path in RESULTS.glob("*/results.md")):
        name, text = folder.name, (folder / "results.md").read_text("utf-8")
        about = json.loads((folder / "run.json").read_text("utf-8"))
        picture = f"../../experiments/results/{name}/"
        page = re.sub(r"(!\[[^]]*\]\()", rf"\1{picture}", text)
        page += f"\n## Make it again\n\n```bash\npython -m experiments run {name}\n```\n"
        _write(out / f"{name}.md", page)
        verdicts = re.search(r"^- (\d+ of \d+ claims? .*)$", text, re.M)
        dates = sorted({made["date"] for made in about["made_with"]})
        shown = f"{verdicts[1] if verdicts else ''} *Run {', '.join(dates)}.*".strip()
        title = text.splitlines()[0].removeprefix("# ")
        cards.append(
            CARD.format(title=title, name=name, picture=f"{picture}{name}.png", verdicts=shown)
        )
    _write(out / "cards.txt", "::::{grid} 1 1 2 2\n:gutter: 3\n\n" + "\n".join(cards) + "\n::::\n")


def _write(path, text):
    """Write a file unless it is there: what is unchanged is not read again."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def setup(app):
    app.connect("config-inited", lambda app, config: write(app))
    return {"parallel_read_safe": True}
