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
    from edgezip import __version__
    from edgezip.cli import context
    from edgezip.program import write_atomically
    from edgezip.report import difference, html, schema, text

    documents = [schema.load(path) for path in files]
    if diff and len(documents) != 2:
        raise UsageError("--diff takes two files", got=str(len(documents)))
    if not diff and output is None:
        raise UsageError("nowhere to write the page", expected="-o report.html, or --diff with two files")
    rows = difference.compare(*documents) if diff else []
    if output is not None:
        write_atomically(output, html.render(documents, title).encode())
    if json:
        keys = ("figure", "before", "after", "ratio")
        facts = {"report": None if output is None else str(output), "diff": [dict(zip(keys, row, strict=True)) for row in rows]}
        context.print_json(schema.dumps({"edgezip": __version__, "verb": "report", **facts}))
        return
    if diff:
        print(text.table(("figure", files[0].name, files[1].name, "ratio"), rows))
    if output is not None:
        print(f"wrote {output}")
