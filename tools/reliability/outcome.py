"""The command of a trial: its options, and its result, printed and with ``--record`` also saved for the page."""
from __future__ import annotations

import argparse
import datetime
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Mapping

TOOLS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOOLS), str(TOOLS / 'helpers')]
from records import append_line

RESULTS = TOOLS.parent / 'docs' / 'results' / 'reliability.jsonl'


def command(doc: str | None, trial: Callable[..., dict[str, Any]], defaults: Mapping[str, int | list[int]]) -> None:
    """Parse the command line, and run the trial in a folder that is deleted afterwards.

    Args:
        doc: Docstring of the script.
        trial: Takes the folder and the options, and returns what it has found.
        defaults: Options and their defaults; of one that has a list there is a trial for each number.
    """
    parser = argparse.ArgumentParser(description=(doc or '').splitlines()[0])
    for name, default in defaults.items():
        parser.add_argument(f'--{name}', type=int, default=default, nargs='+' if isinstance(default, list) else None,
                            help='default: %(default)s')
    parser.add_argument('--record', action='store_true', help=f'add the outcome to {"/".join(RESULTS.parts[-3:])}')
    args = vars(parser.parse_args())
    record = args.pop('record')
    for values in itertools.product(*(value if isinstance(value, list) else [value] for value in args.values())):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = trial(Path(folder), *values)
        outcome = dict(trial=Path(sys.argv[0]).stem, date=datetime.date.today().isoformat(), **found,
                       seconds=round(time.monotonic() - started))
        print(json.dumps(outcome))
        if record:
            append_line(RESULTS, outcome)
