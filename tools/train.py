#!/usr/bin/env python
"""Train a detector or classifier, with a teacher where one is given: train.py --help."""
from mmsrd.apis import main

if __name__ == '__main__':
    main('train')
