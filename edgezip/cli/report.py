"""``edgezip report``: one offline HTML file from the JSON of other verbs, or the difference of two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgezip.errors import UsageError


def command(
    files: Annotated[list[Path], typer.Argument(help="JSON files that verbs wrote with --json.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="HTML file to write.")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Compare two files: edgezip report --diff A.json B.json")] = False,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "EdgeZip report",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """One offline HTML file from JSON files, or what changed between two."""
    from edgezip.report import html, schema

    documents = [schema.load(path) for path in files]
    if diff:
        _print_difference(files, documents, json)
    elif output is None:
        raise UsageError("nowhere to write the page", expected="-o report.html, or --diff with two files")
    if output is not None:
        from edgezip.program import write_atomically

        write_atomically(output, html.render(documents, title).encode())
        print(schema.dumps({"report": str(output)}) if json and not diff else "" if json else f"wrote {output}")


def _print_difference(files: list[Path], documents: list[dict[str, object]], as_json: bool) -> None:
    from edgezip.report import difference, schema, text

    if len(documents) != 2:
        raise UsageError("--diff takes two files", got=str(len(documents)))
    rows = difference.compare(*documents)
    if as_json:
        keys = ("figure", "before", "after", "ratio")
        print(schema.dumps({"verb": "report", "diff": [dict(zip(keys, row, strict=True)) for row in rows]}))
    else:
        print(text.table(("figure", files[0].name, files[1].name, "ratio"), rows))
