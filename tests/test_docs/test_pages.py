"""The pages: links lead somewhere, commands exist with their options, examples of the block are accepted."""
from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.processes import ROOT
from mmengine.logging import HistoryBuffer

from mmsrd.config import parse_distill
from mmsrd.registry import MODELS
from mmsrd.utils.zoo import package_files

FILES = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split('\n')
PAGES = [ROOT / name for name in FILES if name.endswith('.md')]
GUIDES = [page for page in PAGES if page == ROOT / 'README.md' or 'docs/en' in str(page)]
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```', re.M | re.S)
LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
# Options that scripts of a toolbox or of PyTorch define, and not a file here.
FOREIGN = {'pip', 'git', 'jupyter-execute', 'mim'}


def relative(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def anchors(page):
    """Anchors of the headings of a page, as GitHub and MyST make them."""
    headings = re.findall(r'^#+ (.+)$', BLOCK.sub('', page.read_text()), re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=relative)
def test_links_lead_somewhere(page):
    for link in LINK.findall(BLOCK.sub('', page.read_text())):
        if link.startswith('https://'):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands(page):
    """Command lines of a page, without comments and line breaks."""
    for text in blocks(page, 'bash'):
        for line in text.replace('\\\n', ' ').splitlines():
            words = line.split(' #')[0].split()
            while words and re.fullmatch(r'\w+=\S*', words[0]):  # variables of the environment
                words.pop(0)
            if words:
                yield words


def sources_of(words):
    """Texts of the files that define a command's options."""
    if words[0] in ('python', 'python3') or words[0].endswith('/python'):
        if words[1] == '-m':
            if not words[2].startswith('mmsrd'):
                return None
            files = [Path(importlib.util.find_spec(f'{words[2]}.__main__' if words[2] == 'mmsrd' else words[2]).origin)]
        else:
            files = [ROOT / words[1]]
    elif words[0] == 'bash':
        files = [ROOT / words[1]]
    else:
        assert words[0] in FOREIGN or words[0] in ('source', 'cd'), words
        return None
    assert files[0].is_file(), words
    # Scripts share parsers with others of their folder; tools/train.py has its own in the package and runs mmdet's.
    shared = [*files[0].parent.glob('*.py'), *(ROOT / 'mmsrd/apis').glob('*.py'), *files]
    if files[0].stem.endswith(('train', 'test')):
        shared += (package_files('mmdet') / 'tools').glob('*.py')
    if files[0].name in ('run_tests.sh',):
        return None  # hands all to pytest
    return ' '.join(file.read_text() for file in shared)


@pytest.mark.parametrize('page', PAGES, ids=relative)
def test_commands_exist_with_their_options(page):
    for words in commands(page):
        sources = sources_of(words)
        for word in words[2:] if sources else []:
            if word.startswith('--'):
                option = word[2:].partition('=')[0]
                assert re.search(rf"'(--)?{option}'|--{option}\)", sources), words


@pytest.mark.parametrize('page', GUIDES, ids=relative)
def test_examples_of_the_block_are_accepted(page, monkeypatch, tmp_path):
    """The examples of a page are run in order, but for those that need a model; the checkpoint is one of MMEngine."""
    names = {'__name__': 'example'}
    monkeypatch.chdir(tmp_path)
    torch.save(dict(meta={}, state_dict={}, message_hub=dict(loss=HistoryBuffer([1.0], [1]))), 'epoch_24.pth')
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))  # what examples register is forgotten
    for text in blocks(page, 'python'):
        code = compile(text, relative(page), 'exec')
        if 'mmsrd.attach' in text:
            continue
        for name in code.co_names:
            if re.fullmatch(r'[A-Z][A-Z_]{3,}\w*', name):  # left to the reader
                names.setdefault(name, dict(config='t.py', checkpoint='t.pth') if name == 'TEACHER' else name)
        exec(code, names)
        if 'distill' in names:
            parse_distill(names.pop('distill'))
