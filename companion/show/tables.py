"""Tables, as plain DataFrames: their text and their HTML are the same on every machine."""

from companion.metrics import SOURCES


def pandas():
    """The library, told to cut no cell short; imported where a table is made, for it takes a second."""
    import pandas as pd

    pd.options.display.max_colwidth, pd.options.display.width = None, 200
    return pd


def table(
    columns: dict | None = None, head: str = "", digits: int | dict[str, int] = 2, rows: dict | None = None
):  # fmt: skip
    """{column: {row: value}} as a DataFrame, or `rows` {row: {column: value}}; columns carry their units.

    head: what the rows are. digits: after the point, for all numbers or by column. Text stays as it
    is, what is missing becomes a dash, and a row named by a tuple has its parts joined.
    """
    if rows is not None:
        titles = dict.fromkeys(title for row in rows.values() for title in row)
        columns = {title: {name: row.get(title) for name, row in rows.items()} for title in titles}
    names = dict.fromkeys(name for column in columns.values() for name in column)

    def cell(title, value):
        if value is None or isinstance(value, str):
            return value or "—"
        value = value.item() if hasattr(value, "item") else value
        places = digits.get(title, 2) if isinstance(digits, dict) else digits
        return str(value) if isinstance(value, int) else f"{float(value):.{places}f}"

    cells = {
        title: [cell(title, column.get(n)) for n in names] for title, column in columns.items()
    }
    index = [" ".join(map(str, name)) if isinstance(name, tuple) else name for name in names]
    return pandas().DataFrame(cells, index=index).rename_axis(columns=head or None)


def holes_table(found: dict, head: str = ""):
    """{name: (seeds, 3, 4)} of `metrics.latent_holes` as a table: each source's means over the seeds.

    "lost" is the Fréchet distance less that of encoded images.
    """
    titles, rows = ("Fréchet distance", "density", "coverage", "told apart, %"), {}
    for name, by_seed in found.items():
        means = by_seed.mean(0).tolist()  # (3, 4)
        for source, scores in zip(SOURCES, means, strict=True):
            row = dict(zip(titles, scores, strict=True))
            rows[name, source] = {titles[0]: scores[0], "lost": scores[0] - means[-1][0]} | row
        rows[name, SOURCES[-1]] |= {"lost": None, titles[-1]: None}  # nothing to measure
    return table(rows=rows, head=head, digits={titles[0]: 0, "lost": 0, titles[-1]: 0})


def paper_table(*rows: tuple[str, ...]):
    """A DataFrame of (quantity, protocol, the paper's figure, ours), or with our aim before ours."""
    titles = ["quantity", "protocol", "paper", *(["aim"] if len(rows[0]) == 5 else []), "here"]
    frame = pandas().DataFrame(rows, columns=titles)
    return frame.set_index("quantity").rename_axis(None).rename_axis(columns="quantity")
