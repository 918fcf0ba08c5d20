#!/usr/bin/env python
"""Picture of one validation photograph: ground truth, teacher, student alone, student with the preset.

``python tools/studies/real.py --parts chess/lite2_r18w16 --rows "student alone" preset --seeds 0`` trains the models.
The photograph is the one of chess with most objects: its licence allows it, and no prediction chooses it.
"""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from real import ARCHIVES, PRESET, checkpoint, config_alone
from runs import ROOT
from study import ALONE, TEACHER

sys.path.insert(0, str(ROOT / 'tools' / 'helpers'))
from detection_pictures import pictures

SET, TEACHES, LEARNS = 'chess', 'lite2', 'r18w16'


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/studies/real'), help='of the study')
    parser.add_argument('--out', type=Path, default=Path('docs/pictures/photograph.jpg'))
    args = parser.parse_args()
    os.chdir(ROOT)
    student, teacher = config_alone(SET, LEARNS), config_alone(SET, TEACHES)
    models = {'teacher': (teacher, f'{SET}/{TEACHES}', TEACHER), 'student alone': (student, f'{SET}/{LEARNS}', ALONE),
              'student with mmsrd': (student, f'{SET}/{TEACHES}_{LEARNS}', PRESET)}
    pictures({title: (config, checkpoint(args.work_dir / folder / row, config))
              for title, (config, folder, row) in models.items()},
             Path('data', ARCHIVES[SET]), args.out, 1, 'annotations/instances_val.json')
    print(args.out)


if __name__ == '__main__':
    main()
