"""Lay out the data of configs/mmpretrain in data/: ``python tools/prepare_data.py digits|fashion_mnist``."""
from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DEBIAN = Path('/usr/share/datasets/fashion-mnist')
FASHION_FILES = ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte',
                 't10k-labels-idx1-ubyte')


def digits(target: Path) -> int:
    """Write scikit-learn's 1,797 digits as 8×8 PNG files by split and class, two thirds for training; how many."""
    data = load_digits()
    train, val = train_test_split(range(len(data.target)), test_size=1 / 3, random_state=0, stratify=data.target)
    for split, indices in (('train', train), ('val', val)):
        for i in indices:
            folder = target / split / str(data.target[i])
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f'{i:04d}.png'), (data.images[i] * 15).astype(np.uint8))  # 0 to 16 become 0 to 240
    return len(data.target)


def fashion_mnist(target: Path, source: Path) -> int:
    """Unpack the four compressed files of Fashion-MNIST as MMPretrain's dataset class wants them; how many.

    Raises:
        SystemExit: ``source`` has not got them.
    """
    missing = [name for name in FASHION_FILES if not (source / f'{name}.gz').is_file()]
    if missing:
        raise SystemExit(f'{source} has no {missing[0]}.gz. Install the Debian package dataset-fashion-mnist, name '
                         'another folder with --source, or do nothing: MMPretrain downloads the data when training '
                         'starts, where the network allows')
    target.mkdir(parents=True, exist_ok=True)
    for name in FASHION_FILES:
        with gzip.open(source / f'{name}.gz') as packed, open(target / name, 'wb') as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return len(FASHION_FILES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dataset', choices=('digits', 'fashion_mnist'))
    parser.add_argument('--data', type=Path, default=Path('data'), help='folder of all data (default: data)')
    parser.add_argument('--source', type=Path, default=DEBIAN,
                        help=f'folder of the .gz files of Fashion-MNIST (default: {DEBIAN})')
    args = parser.parse_args()
    target = args.data / args.dataset
    count = digits(target) if args.dataset == 'digits' else fashion_mnist(target, args.source)
    print(f'{count} files in {target}')


if __name__ == '__main__':
    main()
