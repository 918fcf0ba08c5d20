"""Names of configs and weights: the zoo's metafiles, downloads from a local server, hashes."""
from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
import torch
from mmengine.fileio import LocalBackend, register_backend

from mmsrd.errors import CheckpointError, ConfigError, MissingPackageError
from mmsrd.utils import zoo


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder served over HTTP on the loopback, and an empty download folder."""
    folder = tmp_path / 'served'
    folder.mkdir()
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{httpd.server_address[1]}'
        httpd.shutdown()


def publish(folder: Path, stem: str, wrong_hash: bool = False) -> str:
    """Write a checkpoint under a name that ends in its hash, as the model zoos do."""
    torch.save(dict(state_dict=dict(w=torch.ones(1))), folder / 'x.pth')
    digest = hashlib.sha256((folder / 'x.pth').read_bytes()).hexdigest()[:8]
    name = f'{stem}-{"0" * 8 if wrong_hash else digest}.pth'
    (folder / 'x.pth').rename(folder / name)
    return name


@pytest.mark.parametrize(('name', 'file'), [
    ('mmdet::retinanet/retinanet_r101_fpn_2x_coco.py', 'retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth'),
    ('mmdet::retinanet/retinanet_r101_fpn_2x_coco', 'retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth'),
    ('mmpretrain::resnet/resnet34_8xb32_in1k.py', 'resnet34_8xb32_in1k_20210831-f257d4e6.pth'),
    # A metafile that is a list; a path that is quoted; a folder that the metafile does not name.
    ('mmdet::objects365/faster-rcnn_r50_fpn_16xb4-1x_objects365v1.py',
     'faster_rcnn_r50_fpn_16x4_1x_obj365v1_20221219_181226-9ff10f95.pth'),
    ('mmdet::gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py',
     'faster_rcnn_r50_fpn_gn_ws-all_1x_coco_20200130-613d9fe2.pth'),
    ('mmdet::ddq/ddq-detr-5scale_r50_8xb2-12e_coco.py', 'ddq_detr_5scale_coco_1x.pth'),
    # The first entry of this config is pretrained without labels, and has no classifier.
    ('mmpretrain::convnext_v2/convnext-v2-atto_32xb32_in1k.py',
     'convnext-v2-atto_fcmae-pre_3rdparty_in1k_20230104-23765f83.pth'),
])
def test_auto_is_what_the_metafile_names(name, file):
    url = zoo.zoo_weights(name, 'k')
    assert url.startswith('https://download.openmmlab.com/')
    assert url.endswith(file)


def test_a_date_is_no_hash(server):
    folder, url = server
    torch.save(dict(state_dict={}), folder / 'teacher-20240115.pth')
    assert Path(zoo.download(f'{url}/teacher-20240115.pth', 'k')).is_file()


def test_download_once_with_the_right_hash(server):
    folder, url = server
    name = publish(folder, 'teacher')
    path = zoo.local_checkpoint(f'{url}/{name}', 'c', 'k')
    assert torch.load(path)['state_dict']['w'].item() == 1
    (folder / name).unlink()  # a second call does not ask the server
    assert zoo.local_checkpoint(f'{url}/{name}', 'c', 'k') == path


def test_two_addresses_that_end_alike(server):
    """Work directories and model hubs have one name for many files."""
    folder, url = server
    for value, name in enumerate(('a', 'b')):
        (folder / name).mkdir()
        torch.save(dict(w=torch.tensor(value)), folder / name / 'epoch_12.pth')
    for root in (url, folder.as_uri()):
        paths = [zoo.local_checkpoint(f'{root}/{name}/epoch_12.pth', 'c', 'k') for name in ('a', 'b')]
        assert [torch.load(path)['w'].item() for path in paths] == [0, 1]


def test_a_folder_that_cannot_be_made(server, monkeypatch, tmp_path):
    folder, url = server
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'file' / 'hub'))
    with pytest.raises(CheckpointError, match='cannot be downloaded .*TORCH_HOME'):
        zoo.local_checkpoint(f'{url}/{publish(folder, "teacher")}', 'c', 'k')


def test_download_inside_a_process_group(server, tmp_path):
    """As DistillRunner does it: MMEngine's runner starts no local group."""
    import torch.distributed as dist
    folder, url = server
    name = publish(folder, 'teacher')
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1)
    try:
        assert zoo.local_checkpoint(f'{url}/{name}', 'c', 'k').endswith(name)
    finally:
        dist.destroy_process_group()


def test_wrong_hash_is_an_error_and_leaves_no_file(server):
    folder, url = server
    name = publish(folder, 'teacher', wrong_hash=True)
    with pytest.raises(CheckpointError, match='invalid hash value'):
        zoo.local_checkpoint(f'{url}/{name}', 'c', 'k')
    assert not list(Path(torch.hub.get_dir()).rglob('*.pth'))


def test_auto_downloads_through_the_metafile(server, monkeypatch, tmp_path):
    folder, url = server
    name = publish(folder, 'det')
    package = tmp_path / 'site' / 'zoopackage'
    (package / '.mim' / 'configs' / 'net').mkdir(parents=True)
    (package / '__init__.py').write_text('')
    (package / '.mim' / 'configs' / 'net' / 'net_coco.py').write_text('model = dict()')
    (package / '.mim' / 'configs' / 'net' / 'metafile.yml').write_text(
        f'Models:\n  - Name: net\n    Config: configs/net/net_coco.py\n    Weights: {url}/{name}\n')
    monkeypatch.syspath_prepend(str(package.parent))
    assert zoo.local_checkpoint('auto', 'zoopackage::net/net_coco.py', 'k').endswith(name)


def test_not_found(server):
    _, url = server
    with pytest.raises(CheckpointError, match=f"k = '{url}/no.pth': cannot be downloaded .*404"):
        zoo.local_checkpoint(f'{url}/no.pth', 'c', 'k')


def test_auto_without_weights_in_the_zoo():
    with pytest.raises(CheckpointError, match='lists no weights'):
        zoo.zoo_weights('mmdet::_base_/models/retinanet_r50_fpn.py', 'k')


def test_missing_package():
    with pytest.raises(MissingPackageError, match="'nopackage' is not installed"):
        zoo.config_path('nopackage::a/b.py', 'k')


def test_local_config_with_a_typo(tmp_path):
    (tmp_path / 'teacher.py').write_text('')
    with pytest.raises(ConfigError, match=r"teachr.py': no such config file .*did you mean '.*teacher.py'"):
        zoo.config_path(str(tmp_path / 'teachr.py'), 'k')


@pytest.mark.parametrize('name', ['retinanet/retinanet_r101_fpn_2x_coco.py', 'retinanet_r101_fpn_2x_coco',
                                  'configs/retinanet/retinanet_r101_fpn_2x_coco.py'])
def test_a_zoo_config_without_its_package(name):
    with pytest.raises(ConfigError, match='; mmdet has mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'):
        zoo.config_path(name, 'k')


def test_local_checkpoint_with_a_typo(tmp_path):
    (tmp_path / 'epoch_12.pth').write_bytes(b'')
    with pytest.raises(CheckpointError, match=r"did you mean '.*epoch_12.pth'"):
        zoo.local_checkpoint(str(tmp_path / 'epoch12.pth'), 'c', 'k')


def test_auto_misspelt():
    with pytest.raises(CheckpointError, match=r"k = 'auot': no such file .*\(did you mean 'auto'\?\)"):
        zoo.local_checkpoint('auot', 'mmdet::x', 'k')


def test_weights_with_a_name_in_mmengines_lists(server, monkeypatch, tmp_path):
    """As an ``init_cfg`` names them; a list may be extended by a file of the user."""
    folder, url = server
    name = publish(folder, 'listed')
    (tmp_path / 'open_mmlab.json').write_text(json.dumps(dict(mine=f'{url}/{name}')))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    for scheme in ('open-mmlab', 'openmmlab'):
        assert zoo.local_checkpoint(f'{scheme}://mine', 'c', 'k').endswith(name)
    with pytest.raises(CheckpointError, match=r"k = 'open-mmlab://mime': MMEngine has no such weights \(did you"):
        zoo.local_checkpoint('open-mmlab://mime', 'c', 'k')
    assert zoo.named_weights('torchvision://resnet18', 'k').startswith('https://download.pytorch.org/models/resnet18')


class Store(LocalBackend):
    """A store that has one file."""

    def get(self, filepath):
        if not filepath.endswith('known.pth'):
            raise FileNotFoundError(filepath)
        return b'content'


@pytest.mark.usefixtures('server')
def test_a_store_that_mmengine_reads():
    register_backend('teststore', Store, force=True, prefixes='teststore')
    path = zoo.local_checkpoint('teststore://bucket/known.pth', 'c', 'k')
    assert Path(path).read_bytes() == b'content'
    with pytest.raises(CheckpointError, match="k = 'teststore://bucket/other.pth': cannot be downloaded"):
        zoo.local_checkpoint('teststore://bucket/other.pth', 'c', 'k')


@pytest.mark.usefixtures('server')
def test_a_store_that_breaks_off(monkeypatch):
    """The file has its name when it is complete, not before."""
    register_backend('teststore', Store, force=True, prefixes='teststore')
    write = Path.write_bytes

    def half(path, content):
        write(path, content[:3])
        raise OSError('no space left')

    monkeypatch.setattr(Path, 'write_bytes', half)
    with pytest.raises(CheckpointError, match='no space left'):
        zoo.local_checkpoint('teststore://bucket/known.pth', 'c', 'k')
    monkeypatch.undo()
    assert not list(Path(torch.hub.get_dir()).rglob('*known*'))
