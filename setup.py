"""Packaging of mmsrd."""
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
VERSION: dict = {}
exec((ROOT / 'mmsrd' / 'version.py').read_text(), VERSION)


class BuildWithMIM(build_py):
    """Puts tools, configs and the index of metafiles where MIM looks for them in a wheel: ``mmsrd/.mim``."""

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            return  # MIM finds them beside the package
        target = Path(self.build_lib) / 'mmsrd' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in ('tools', 'configs'):
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'))
        shutil.copy(ROOT / 'model-index.yml', target)


# No requirement that pip could move: mmsrd goes into environments that work and must go on working. Where a
# compiled mmcv is, another torch breaks it; where a fork of mmengine or of a toolbox is, the package of the
# original name overwrites it. `mmsrd/__init__.py` checks what is there, `python -m mmsrd.env` shows it.
# The extras are for those who start from nothing: `pip install 'mmsrd[mmdet,lite]'` makes a working environment.
BASE = ['torch>=2.0', 'torchvision', 'mmengine>=0.8.0', 'numpy',
        'setuptools<81']  # mmengine imports pkg_resources

setup(
    name='mmsrd',
    version=VERSION['__version__'],
    description='Knowledge distillation by SRD for any MMDetection or MMPretrain config',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    author='mmsrd contributors',
    keywords='knowledge distillation, object detection, mmdetection, mmpretrain, openmmlab',
    classifiers=[
        'Development Status :: 5 - Production/Stable',
        'Intended Audience :: Developers',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmsrd', 'mmsrd.*']),
    package_data={'mmsrd': ['py.typed']},
    cmdclass=dict(build_py=BuildWithMIM),
    python_requires='>=3.8',
    install_requires=[],
    extras_require=dict(
        mmdet=['mmdet>=3.0.0,<3.4.0', 'pycocotools'],
        mmpretrain=['mmpretrain>=1.0.0'],
        timm=['timm>=1.0', 'huggingface_hub', 'safetensors'],  # teachers from timm
        lite=[*BASE, 'mmcv-lite>=2.0.0,<2.2.0'],
        dev=['pytest', 'pytest-xdist', 'ruff', 'mypy', 'scikit-learn', 'matplotlib', 'wheel'],
    ),
)
