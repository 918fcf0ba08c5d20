"""Run a script that imports a toolbox first, with mmcv's operators in place: ``python -m mmsrd SCRIPT [arguments]``.

The stock ``tools/train.py`` needs this only where mmcv has no compiled operators
and the config names no class of mmsrd; ``tools/test.py`` wherever mmcv has none.
"""
import runpy
import sys

if __name__ == '__main__':
    if len(sys.argv) < 2:
        raise SystemExit('usage: python -m mmsrd SCRIPT [arguments]')
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')
