"""A convolutional network on handwritten digits, as PyTorch's beginners write it."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.dropout = nn.Dropout2d(0.0)
        self.fc1 = nn.Linear(16 * 3 * 3, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = self.norm(self.conv2(x))
        x = F.max_pool2d(F.relu(x), 2)
        x = self.dropout(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x), inplace=True)
        return F.log_softmax(self.fc2(x), dim=1)


def evaluate(model, loader, device):
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    return test_loss / len(loader.dataset), correct / len(loader.dataset)


def main(prepare):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    labels = torch.from_numpy(digits.target).long()
    train = TensorDataset(images[:512], labels[:512])
    test = TensorDataset(images[1500:], labels[1500:])
    model = prepare(Net()).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=5e-2, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    found = []
    for _epoch in range(2):
        model.train()
        for data, target in DataLoader(train, batch_size=64):
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            loss = F.nll_loss(model(data), target)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        scheduler.step()
        found.extend(evaluate(model, DataLoader(test, batch_size=100), device))
    found.append(scheduler.get_last_lr()[0])
    return found
