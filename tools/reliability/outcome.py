"""Print the result of a trial; with ``--record`` also save it for the page."""
from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / 'docs' / 'results' / 'reliability.jsonl'


def parser_for(description: str | None) -> argparse.ArgumentParser:
    """A parser of a trial's options; the description is the first line of a docstring."""
    parser = argparse.ArgumentParser(description=(description or '').splitlines()[0])
    parser.add_argument('--record', action='store_true', help=f'add the outcome to {"/".join(RESULTS.parts[-3:])}')
    return parser


def report(args: argparse.Namespace, trial: str, found: dict[str, Any]) -> None:
    """Print an outcome, and record it if asked to."""
    line = json.dumps(dict(trial=trial, date=datetime.date.today().isoformat(), **found))
    print(line)
    if args.record:
        with open(RESULTS, 'a') as file:
            file.write(f'{line}\n')
