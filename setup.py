"""Packaging of mmsrd."""
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION: dict = {}
exec((ROOT / 'mmsrd' / 'version.py').read_text(), VERSION)

setup(
    name='mmsrd',
    version=VERSION['__version__'],
    description='Knowledge distillation by SRD for any MMDetection or MMPretrain config',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    author='mmsrd contributors',
    packages=find_packages(include=['mmsrd', 'mmsrd.*']),
    package_data={'mmsrd': ['py.typed']},
    python_requires='>=3.10,<3.13',
    # mmcv, mmcv-lite and onedl-mmcv share one import name, and a second one installed over the first
    # breaks both. So no requirement and no toolbox extra names any of them; `lite` is for those who want
    # mmcv-lite and have none. The onedl forks of the toolboxes are left alone for the same reason.
    install_requires=[
        'torch>=2.6', 'torchvision>=0.21', 'mmengine>=0.10.4', 'numpy',
        'setuptools<81',  # mmengine imports pkg_resources
    ],
    extras_require=dict(
        mmdet=['mmdet>=3.2.0', 'pycocotools'],
        mmpretrain=['mmpretrain>=1.1.0'],
        timm=['timm'],  # RegNetY, the teacher of the DeiT configs
        lite=['mmcv-lite>=2.1.0,<2.2.0'],
        dev=['pytest', 'pytest-xdist', 'ruff', 'mypy', 'scikit-learn', 'matplotlib', 'wheel'],
    ),
)
