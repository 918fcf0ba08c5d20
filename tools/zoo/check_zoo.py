#!/usr/bin/env python
"""One optimisation step of a config of every zoo folder: alone, with a teacher of its family, with another one.

Models have random weights and inputs are random; presets choose the taps. Finished
folders are recorded and not repeated. ``configs/ZOO.md`` is the table of the record.
"""
from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'helpers'))
from records import append_line, markdown, read_lines
from zoo_cases import OTHER_TEACHER, check, folders, pick, tidy

RESULTS = Path('docs/results/zoo.jsonl')
TABLE = Path('configs/ZOO.md')
NAMES = dict(mmdet='MMDetection', mmpretrain='MMPretrain', mmseg='MMSegmentation', mmpose='MMPose',
             mmrotate='MMRotate', mmyolo='MMYOLO')
PACKAGES = tuple(NAMES)
WHY = dict(mmpretrain=" RepMLP takes images of one size, and the teacher's is another. HiViT keeps its default "
                      '`out_indices` in one list, which each instance changes for its own depth.',
           mmrotate=' H2RBox calls its neck twice in a step, for two views of an image.')
LIMIT_S = 900


def case(package: str, folder: str) -> dict[str, Any]:
    """Run one folder in this process: its first config that trains undistilled is the student."""
    names = pick(package, folder)
    record: dict[str, Any] = dict(package=package, folder=folder, config=None, teacher=None,
                                  alone='no config that trains a model of this task with labels')
    failed = set()
    for name in names:
        outcome = check(package, name, None)
        if outcome == 'ok' or record['config'] is None:
            record.update(config=name, alone=outcome)
        if outcome == 'ok':
            break
        failed.add(name)
    if record['alone'] == 'ok':
        others = [name for name in names if name != record['config'] and name not in failed]
        for teacher in [*others[:1], record['config']]:
            record['teacher'] = teacher
            record['family'] = check(package, record['config'], teacher)
            if record['family'] == 'ok':
                break
            record.setdefault('unfit', {})[teacher] = record['family']
        record['other'] = check(package, record['config'], OTHER_TEACHER[package])
    return record


def in_process(package: str, folder: str, results: Path, threads: int) -> dict[str, Any]:
    """Run one folder in a process of its own, which may crash or hang, and record it."""
    started = time.time()
    command = [sys.executable, __file__, '--case', package, folder]
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'PYTHONWARNINGS': 'ignore'}
    record: dict[str, Any] = dict(package=package, folder=folder, config=None, teacher=None)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"package"')]
        record = json.loads(lines[-1]) if lines else {
            **record, 'alone': f'the process ended with code {done.returncode}: {tidy(done.stderr.strip()[-200:])}'}
    except subprocess.TimeoutExpired:
        record['alone'] = f'took more than {LIMIT_S} s'
    record.update(seconds=round(time.time() - started, 1), folders=len(folders(package)))
    append_line(results, record)
    print(f'{package}/{folder}: {record["alone"][:60]}, {record.get("family", "-")[:60]}, '
          f'{record.get("other", "-")[:60]} ({record["seconds"]:.0f} s)', flush=True)
    return record


def table(records: Sequence[dict[str, Any]]) -> str:
    """The Markdown page of the newest record of each folder."""
    newest = {(r['package'], r['folder']): r for r in records}
    lines = [
        '# The model zoos', '',
        'One full optimisation step (forward, backward, optimizer) on two to four random images, with random weights',
        'and the preset: the student alone, with a teacher of the same folder, and with RetinaNet-R50 of MMDetection',
        '(detectors of all toolboxes), ResNet-50 (classifiers), FCN-R50 (segmentors) or heatmaps of ResNet-50',
        '(keypoints). "works" says that the step ran, the distillation losses were finite and every projector got a',
        'gradient; not that the student got better. Made on a CPU with mmcv-lite by',
        '',
        '```bash', 'python tools/zoo/check_zoo.py', '```', '',
        'which goes on where it was interrupted, for each toolbox that is installed; the records are in',
        '`docs/results/zoo.jsonl`. MMPose, MMRotate and MMYOLO were tried in the environment `toolboxes`',
        '([tools/environments](../tools/environments/README.md)). Folders that do not train undistilled are listed',
        'below, with the reason, and count for nothing.']
    for package in PACKAGES:
        mine = sorted((r for r in newest.values() if r['package'] == package), key=lambda r: r['folder'])
        trained = [r for r in mine if r['alone'] == 'ok']
        both = sum(r.get('family') == r.get('other') == 'ok' for r in trained)
        lines += ['', f'## {NAMES[package]}', '',
                  f'{len(mine)} of {_count(mine)} folders tried; {len(trained)} train undistilled, and of '
                  f'these {both} with both teachers.', '',
                  markdown(('folder', 'student', 'teacher of the folder', 'same folder', 'other teacher'), (
                      (r['folder'], _relative(r['config'], r['folder']), 'the same config'
                       if r['config'] == r['teacher'] else _relative(r['teacher'], r['folder']),
                       _cell(r.get('family')), _cell(r.get('other'))) for r in trained))]
        unfit = [(r['config'], *pair) for r in trained for pair in r.get('unfit', {}).items()]
        if unfit:
            lines += ['', f'### {NAMES[package]}: pairs that do not work', '',
                      f'The student config itself was the teacher then.{WHY.get(package, "")}', '',
                      markdown(('student', 'teacher', 'why'), (
                          (student.partition('::')[2], teacher.partition('::')[2], _cell(why))
                          for student, teacher, why in unfit))]
        lines += ['', f'### {NAMES[package]}: left out', '', markdown(('folder', 'student', 'why'), (
            (r['folder'], _relative(r['config'], r['folder']), _cell(r['alone'])) for r in mine if r['alone'] != 'ok'))]
    return '\n'.join(lines) + '\n'


def _count(mine: Sequence[dict[str, Any]]) -> int:
    """Folders of a zoo when it was last tried; its toolbox may be another version, or missing, here."""
    return max((r.get('folders', 0) for r in mine), default=0) or len(mine)


def _relative(name: Any, folder: str) -> str:
    """A config's path below the folder of its row."""
    path = str(name or '').partition('::')[2]
    return path[len(folder) + 1:] if path.startswith(f'{folder}/') else Path(path).name


def _cell(outcome: str | None) -> str:
    return 'works' if outcome == 'ok' else str(outcome).replace('|', '\\|').replace('<', '&lt;')[:160]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    installed = [package for package in PACKAGES if importlib.util.find_spec(package) is not None]
    parser.add_argument('--packages', nargs='+', choices=PACKAGES, default=installed)
    parser.add_argument('--folders', nargs='+', help='only these, again if they are recorded already')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--results', type=Path, default=RESULTS)
    parser.add_argument('--report-only', action='store_true', help='make the table from what is recorded')
    parser.add_argument('--case', nargs=2, metavar=('PACKAGE', 'FOLDER'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(case(*args.case)), flush=True)
        return
    os.chdir(ROOT)
    records = read_lines(args.results)
    done = {(r['package'], r['folder']) for r in records}
    todo = [(package, folder) for package in args.packages for folder in folders(package)
            if (folder in args.folders if args.folders else (package, folder) not in done)]
    if not args.report_only:
        threads = max((os.cpu_count() or 1) // args.jobs, 1)
        with ThreadPoolExecutor(args.jobs) as pool:
            records += pool.map(lambda item: in_process(*item, args.results, threads), todo)
    if args.results == RESULTS:
        TABLE.write_text(table(records))
    else:
        print(table(records))


if __name__ == '__main__':
    main()
