"""``python -m mmsrd train|test ...``: ``tools/train.py`` and ``tools/test.py`` without a checkout of the repository.

``python -m mmsrd SCRIPT [arguments]`` runs a script with mmcv's operators in place before it imports a toolbox.
The stock ``tools/train.py`` needs this only where mmcv has no compiled operators and the config names no class of
mmsrd; ``tools/test.py`` wherever mmcv has none.
"""
import os
import runpy
import sys

if __name__ == '__main__':
    if len(sys.argv) < 2:
        raise SystemExit('usage: python -m mmsrd train CONFIG [--teacher CONFIG] [...]\n'
                         '       python -m mmsrd test CONFIG CHECKPOINT [...]\n'
                         '       python -m mmsrd SCRIPT [arguments]')
    sys.argv = sys.argv[1:]
    if sys.argv[0] in ('train', 'test'):
        from .apis import main
        main(sys.argv[0])
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))  # as Python itself does for a script
        runpy.run_path(sys.argv[0], run_name='__main__')
