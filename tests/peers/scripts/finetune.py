"""Fine-tuning: a checkpoint is saved, loaded in part, the backbone frozen, the head new, training stopped and resumed."""

from __future__ import annotations

import copy
import os
import tempfile

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def backbone():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())


class Model(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = backbone()
        self.head = nn.Linear(16, classes)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.head(self.features(x)) * self.scale


def fit(model, optimizer, scheduler, x, y, steps, found):
    criterion = nn.CrossEntropyLoss()
    for _ in range(steps):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        found.append(loss.item())


def main(prepare):
    digits = load_digits()
    x = torch.tensor(digits.data[:200], dtype=torch.float) / 16
    y = torch.tensor(digits.target[:200])
    found = []
    folder = tempfile.mkdtemp()
    pretrained, path = prepare(Model(10)), os.path.join(folder, "model.pt")
    optimizer = torch.optim.SGD(pretrained.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    fit(pretrained, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95), x, y, 5, found)
    torch.save(pretrained.state_dict(), path)

    model = prepare(Model(2))
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {k: v for k, v in state.items() if not k.startswith("head.")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["head.weight", "head.bias"]
    assert unexpected == []
    for param in model.features.parameters():
        param.requires_grad = False
    nn.init.kaiming_normal_(model.head.weight, nonlinearity="relu")
    prepare(model.head)
    before = copy.deepcopy(model.features.state_dict())
    trainable = filter(lambda p: p.requires_grad, model.parameters())
    optimizer = torch.optim.Adam(trainable, lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    fit(model, optimizer, scheduler, x, y % 2, 4, found)
    assert all(torch.equal(before[k], v) for k, v in model.features.state_dict().items())

    checkpoint = os.path.join(folder, "checkpoint.pt")
    torch.save(
        {
            "epoch": 4,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler_state_dict": scheduler.state_dict(),
            "loss": found[-1],
        },
        checkpoint,
    )
    fit(model, optimizer, scheduler, x, y % 2, 3, found)

    again = Model(2)
    for p in again.features.parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in again.parameters() if p.requires_grad], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    loaded = torch.load(checkpoint, weights_only=True)
    again.load_state_dict(loaded["model_state_dict"])
    optimizer.load_state_dict(loaded["optimizer_state_dict"])
    scheduler.load_state_dict(loaded["scheduler_state_dict"])
    assert loaded["epoch"] == 4
    fit(again, optimizer, scheduler, x, y % 2, 3, found)
    assert max(abs(a - b) for a, b in zip(found[-3:], found[-6:-3], strict=False)) < 1e-5

    for param in again.parameters():
        param.requires_grad = True
    optimizer = torch.optim.AdamW(
        [{"params": again.features.parameters(), "lr": 1e-3}, {"params": again.head.parameters()}], lr=1e-2
    )
    fit(again, optimizer, torch.optim.lr_scheduler.LinearLR(optimizer), x, y % 2, 4, found)
    ema = copy.deepcopy(again)
    for p in ema.parameters():
        p.requires_grad_(False)
    with torch.no_grad():
        for a, b in zip(ema.parameters(), pretrained.features.parameters(), strict=False):
            if a.shape == b.shape:
                a.mul_(0.9).add_(b, alpha=0.1)
        again.eval()
        accuracy = (again(x).argmax(1) == y % 2).float().mean().item()
    return [*found, accuracy, ema(x).abs().mean().item()]
