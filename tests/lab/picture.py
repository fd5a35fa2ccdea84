"""Draws the matrix as an SVG: clients × networks, without this crate and with it. The colour of a cell
is the share of responses that arrived, and its text the percentage, so that no colour is needed."""

from html import escape

from matrix import total
from page import COLUMNS, cells_of

#: For each theme: the background, the text, and the steps from nothing to everything, each with the
#: colour of its text. Orange and blue are distinct for the colour-blind, and all texts have a
#: contrast of at least 4.5 to 1.
THEMES = {
    "light": {
        "text": "#20221f",
        "faint": "#5a5e56",
        "empty": "#f1efe8",
        "steps": [("#9c4a00", "#ffffff"), ("#f0a860", "#20221f"), ("#c9dcef", "#20221f"), ("#1f5f99", "#ffffff")],
    },
    "dark": {
        "text": "#e8e6df",
        "faint": "#a9ada3",
        "empty": "#262824",
        "steps": [("#b4550a", "#ffffff"), ("#f0a860", "#20221f"), ("#c9dcef", "#20221f"), ("#2f74b5", "#ffffff")],
    },
}

#: In pixels.
ROW, CELL, NAMES, GAP, HEAD = 18, 29, 178, 20, 132

TITLES = [("plain", "without this crate"), ("crate", "with this crate")]


def render(result, theme):
    """Returns the picture in a theme."""
    colours = THEMES[theme]
    columns = [column for column in COLUMNS if cells_of(result["cells"], column)]
    clients = list(dict.fromkeys(row["client"] for row in result["cells"]))
    block = CELL * len(columns)
    # The heads lean over their columns.
    width = NAMES + 2 * block + GAP + 34
    height = HEAD + ROW * len(clients) + 44
    parts = [head(width, height, colours, result)]
    for number, (server, title) in enumerate(TITLES):
        left = NAMES + number * (block + GAP)
        parts.append(f'<text class="title" x="{left}" y="18">{title}</text>')
        parts += heads(left, columns)
    for at, client in enumerate(clients):
        top = HEAD + at * ROW
        parts.append(f'<text class="name" x="{NAMES - 8}" y="{top + 13}">{escape(client)}</text>')
        mine = [row for row in result["cells"] if row["client"] == client]
        for number, (server, _) in enumerate(TITLES):
            left = NAMES + number * (block + GAP)
            of_server = [row for row in mine if row["server"] == server]
            parts += line(left, top, columns, of_server, colours)
    parts += legend(height - 16, colours)
    return "\n".join(parts) + "\n</svg>\n"


def head(width, height, colours, result):
    words = []
    for server, title in TITLES:
        whole, tries = total([row for row in result["cells"] if row["server"] == server])
        words.append(f"{title}, {whole} of {tries} responses arrived")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">\n'
        f"<title>The share of responses that arrived, by client and network: {'; '.join(words)}.</title>\n"
        "<style>\n"
        f"text {{ font: 12px system-ui, sans-serif; fill: {colours['text']}; }}\n"
        ".title { font-size: 16px; font-weight: 600; }\n"
        ".name { text-anchor: end; }\n"
        ".share { font-size: 11px; text-anchor: middle; }\n"
        f".note {{ fill: {colours['faint']}; }}\n"
        "</style>"
    )


def heads(left, columns):
    """Returns the heads of the columns, which are written upwards."""
    for at, column in enumerate(columns):
        x = left + at * CELL + CELL // 2 + 4
        yield f'<text transform="translate({x} {HEAD - 8}) rotate(-60)">{escape(column[0])}</text>'


def line(left, top, columns, rows, colours):
    for at, column in enumerate(columns):
        cells = cells_of(rows, column)
        x = left + at * CELL
        if not cells:
            yield rect(x, top, colours["empty"])
            continue
        whole, tries = total(cells)
        fill, ink = colours["steps"][step(whole, tries)]
        yield rect(x, top, fill)
        yield f'<text class="share" style="fill:{ink}" x="{x + CELL // 2 - 1}" y="{top + 13}">{percent(whole, tries)}</text>'


def rect(x, y, fill):
    return f'<rect x="{x}" y="{y}" width="{CELL - 2}" height="{ROW - 2}" rx="2" fill="{fill}"/>'


def step(whole, tries):
    """Returns the step of a share: nothing, less than half, more, everything."""
    if whole == 0:
        return 0
    if whole == tries:
        return 3
    return 1 if 2 * whole < tries else 2


def percent(whole, tries):
    """Returns a share in percent. Only nothing is 0, and only everything is 100."""
    share = round(100 * whole / tries)
    if 0 < whole < tries:
        share = min(max(share, 1), 99)
    return str(share)


def legend(y, colours):
    x = NAMES
    for (fill, _), words in zip(colours["steps"], ["0 % arrived", "less than half", "half or more", "100 %"]):
        yield rect(x, y - 13, fill)
        yield f'<text class="note" x="{x + CELL + 4}" y="{y}">{words}</text>'
        x += 140
    yield rect(x, y - 13, colours["empty"])
    yield f'<text class="note" x="{x + CELL + 4}" y="{y}">not run</text>'
