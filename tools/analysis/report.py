#!/usr/bin/env python
"""The report of finished trainings from their logs: of one, or of several that differ in their seed.

``report.py WORK_DIR... [--baseline WORK_DIR...] [--out FILE]`` draws their mean and range, and prints mean and
standard deviation. Pictures and plan are those that ``DistillReportHook`` has left in the first work directory.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Sequence

from mmsrd.errors import MMSRDError
from mmsrd.report import PAGE, ReportNotes, RunLog, distinct_names, write_report


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('work_dirs', type=Path, nargs='+', metavar='WORK_DIR')
    parser.add_argument('--baseline', type=Path, nargs='+', default=[], metavar='WORK_DIR',
                        help='work directories of the student alone; those of the training unless given')
    parser.add_argument('--metric', help='what the report is about; the main metric unless given')
    parser.add_argument('--out', type=Path, help=f'the page; {PAGE} of the first work directory unless given')
    args = parser.parse_args(argv)
    out = args.out or args.work_dirs[0] / PAGE
    known = Path(ReportNotes.read(args.work_dirs[0]).baseline or 'nowhere')
    try:
        runs, baselines = ([RunLog.from_work_dir(path, name) for path, name in zip(paths, distinct_names(paths))]
                           for paths in (args.work_dirs, args.baseline or [path for path in [known] if path.is_dir()]))
        write_report(runs, out, baselines, args.metric)
    except MMSRDError as e:
        sys.exit(str(e))
    print(out)


if __name__ == '__main__':
    main()
