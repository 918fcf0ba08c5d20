"""MIM's commands on an installed wheel, in an environment of its own and an empty folder."""
from __future__ import annotations

import functools
import http.server
import sysconfig
import threading
import venv
from pathlib import Path

import pytest
from helpers.processes import run
from mmengine import dump, load

pytestmark = pytest.mark.slow  # installs openmim from the index, and each command takes seconds
OPTIONS = ('train_cfg.max_iters=2', 'train_cfg.val_interval=9', 'default_hooks.checkpoint.interval=2',
           'train_dataloader.batch_size=2')
CONFIG = 'srd_neck_fcos-w32_fcos-w8_digits.py'
TEACHER = 'distill.teacher.checkpoint=work_dirs/fcos_digits_teacher/iter_2.pth'


@pytest.fixture(scope='module')
def mim(tmp_path_factory, wheel):
    """``mim(arguments...)`` in a folder with a tiny set of digits; installed packages are those of this Python."""
    folder = tmp_path_factory.mktemp('mim')
    venv.create(folder / 'env', with_pip=True)
    packages = Path(sysconfig.get_path('purelib', vars=dict(base=str(folder / 'env'), platbase=str(folder / 'env'))))
    (packages / 'these.pth').write_text(sysconfig.get_path('purelib'))
    bin_folder = folder / 'env' / 'bin'
    run(bin_folder / 'pip', 'install', '--quiet', 'openmim', 'setuptools<81', cwd=folder)
    # Not on the path: pip would take the checkout for an installation.
    run(bin_folder / 'pip', 'install', '--quiet', '--no-deps', wheel, cwd=folder, PYTHONPATH='')
    (folder / 'empty').mkdir()

    def command(*arguments, ok=True):
        environment = dict(PATH=f'{bin_folder}:/usr/bin:/bin', PYTHONPATH='', HOME=str(folder))
        done = run(bin_folder / 'mim', *arguments, cwd=folder / 'empty', ok=ok, **environment)
        return done.stdout + done.stderr

    command('run', 'mmsrd', 'compose_digits', 'work_dirs/quickstart/data', '--train', '8', '--val', '4')
    command.folder = folder / 'empty'
    command.package = packages / 'mmsrd'
    return command


def test_train_and_test(mim):
    mim('train', 'mmsrd', 'fcos_digits_teacher.py', '--gpus', '0', '--cfg-options', *OPTIONS)
    mim('train', 'mmsrd', CONFIG, '--gpus', '0', '--cfg-options', *OPTIONS, TEACHER)
    checkpoint = f'work_dirs/{CONFIG[:-3]}/iter_2.pth'
    assert (mim.folder / checkpoint).is_file()
    (mim.folder / checkpoint).unlink()
    # torch.distributed.launch, which passes --local-rank
    mim('train', 'mmsrd', CONFIG, '--gpus', '2', '--launcher', 'pytorch', '--cfg-options', *OPTIONS, TEACHER)
    assert 'finished successfully' in mim('test', 'mmsrd', CONFIG, '--checkpoint', checkpoint, '--gpus', '0')


def test_search(mim):
    found = mim('search', 'mmsrd')
    assert 'srd_neck_retinanet-r101_retinanet-r50_2x_coco' in found
    assert CONFIG[:-3] in found


def test_download(mim, tmp_path):
    """No weights are published yet; where a metafile names some, MIM finds and fetches them."""
    (tmp_path / 'weights.pth').write_bytes(b'weights')
    metafile = mim.package / '.mim' / 'configs' / 'quickstart' / 'metafile.yml'
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        content = load(str(metafile))
        content['Models'][0]['Weights'] = f'http://127.0.0.1:{server.server_address[1]}/weights.pth'
        dump(content, str(metafile))
        mim('download', 'mmsrd', '--config', CONFIG[:-3], '--dest', 'downloaded')
        server.shutdown()
    assert (mim.folder / 'downloaded' / 'weights.pth').read_bytes() == b'weights'
    assert (mim.folder / 'downloaded' / CONFIG).is_file()
