"""A teacher without boxes: a timm model that classifies objects of a COCO-format set, each in a window around it.

Windows keep the scale of the scenes. Training leaves a folder that ``timm::FOLDER`` names, with its accuracy on the
validation set's objects in ``result.json``.
"""
from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional

ARCHITECTURE = 'resnet10t'
WINDOW = 64
BATCH = 64


def windows(data: Path, split: str, limit: int) -> tuple[Tensor, Tensor]:
    """Windows (N, 3, 64, 64) around objects, RGB, uint8, and their classes (N,), int64."""
    content = json.loads((data / f'annotations/{split}.json').read_text())
    order = {category['id']: i for i, category in enumerate(content['categories'])}
    files = {image['id']: image['file_name'] for image in content['images']}
    half, crops, labels = WINDOW // 2, [], []
    for box in content['annotations'][:limit]:
        image = cv2.cvtColor(cv2.imread(str(data / split / files[box['image_id']])), cv2.COLOR_BGR2RGB)
        padded = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_REFLECT)
        x, y, width, height = box['bbox']
        left, top = round(x + width / 2), round(y + height / 2)
        crops.append(padded[top:top + WINDOW, left:left + WINDOW])
        labels.append(order[box['category_id']])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2), torch.tensor(labels)


def train(data: Path, out: Path, objects: int, epochs: int, seed: int = 0) -> float:
    """Train, save, and return the accuracy on the validation set's objects, from 0 to 1."""
    torch.manual_seed(seed)
    images, labels = windows(data, 'train', objects)
    classes = len(json.loads((data / 'annotations/train.json').read_text())['categories'])
    model = timm.create_model(ARCHITECTURE, num_classes=classes)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ('mean', 'std'))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    batch = min(BATCH, len(images))
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, max(steps, 2))
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch)[:len(images) // batch]:
            logits = model((images[chosen] / 255 - mean) / std)
            functional.cross_entropy(logits, labels[chosen]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    images, labels = windows(data, 'val', objects)
    model.eval()
    with torch.no_grad():
        right = sum(int((model((x / 255 - mean) / std).argmax(1) == y).sum())
                    for x, y in zip(images.split(BATCH), labels.split(BATCH)))
    timm.models.save_for_hf(model, str(out), model_config=dict(num_classes=classes))
    accuracy = right / len(labels)
    (out / 'result.json').write_text(json.dumps(dict(top1=round(100 * accuracy, 2), objects=len(labels))) + '\n')
    return accuracy
