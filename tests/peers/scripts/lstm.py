"""A classifier of sequences: embedding, packed in an LSTM of two layers, RMSprop, a rate that waits for better losses."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn, optim


class Classifier(nn.Module):
    def __init__(self, vocab, classes):
        super().__init__()
        self.embedding = nn.Embedding(vocab, 8, padding_idx=0)
        self.lstm = nn.LSTM(8, 12, num_layers=2, batch_first=True, bidirectional=True, dropout=0.0)
        self.fc = nn.Linear(24, classes)

    def forward(self, text, lengths):
        embedded = self.embedding(text)
        output, (hidden, _cell) = self.lstm(embedded)
        mask = torch.arange(text.shape[1])[None, :] < lengths[:, None]
        pooled = (output * mask.unsqueeze(-1)).sum(dim=1) / lengths.unsqueeze(1).float()
        return self.fc(pooled + torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1))


def main(prepare):
    rng = np.random.default_rng(0)
    model = prepare(Classifier(20, 3))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = optim.RMSprop(model.parameters(), lr=0.01, momentum=0.5)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    found = []
    for _ in range(5):
        lengths = rng.integers(2, 7, 10)
        rows = np.where(np.arange(6) < lengths[:, None], rng.integers(1, 20, (10, 6)), 0)
        text, labels = torch.from_numpy(rows), torch.as_tensor(rows.sum(1) % 3)
        optimizer.zero_grad()
        loss = criterion(model(text, torch.tensor(lengths)), labels)
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.5)
        optimizer.step()
        scheduler.step(loss)
        found += [loss.item(), optimizer.param_groups[0]["lr"]]
    hidden = torch.zeros(1, 10, 5)
    gru = prepare(nn.GRU(8, 5))
    for step in range(3):
        _, hidden = gru(model.embedding(text[:, step]).unsqueeze(0), hidden.detach())
    found += hidden.flatten().tolist()
    return found
