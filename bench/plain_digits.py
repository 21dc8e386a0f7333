"""What `bench/digits.yaml` does, as a plain script: read, split, train, export, check, evaluate, time.

It is the honest alternative of `bench/run.py`: PyTorch and ONNX Runtime as their documentation uses them, the same
network, data, batches, epochs and export. It keeps nothing but `model.onnx`.
"""

import csv
import gzip
import math
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn


def main(data: Path, folder: Path) -> None:
    """Print the test accuracy of both models, their difference, and their latency."""
    with gzip.open(data, "rt", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    table = np.array(rows, dtype=np.float32)
    images, labels = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)
    order = np.random.default_rng(7).permutation(len(images))
    train, validation, test = np.split(order, [round(0.7 * len(order)), round(0.85 * len(order))])

    torch.manual_seed(7)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, 10),
    )
    inputs, targets = torch.from_numpy(images / 16), torch.from_numpy(labels)
    epochs, size = 30, 128
    steps = epochs * math.ceil(len(train) / size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.01, fused=True)
    warm = steps // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        ),
    )
    loss_of = nn.CrossEntropyLoss()
    best, best_state = math.inf, network.state_dict()
    for _ in range(epochs):
        network.train()
        shuffled = torch.from_numpy(train)[torch.randperm(len(train))]
        for batch in torch.split(shuffled, size):
            loss = loss_of(network(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            value = loss_of(network(inputs[validation]), targets[validation]).item()
        if value < best:
            best, best_state = value, {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(best_state)

    model = nn.Sequential(network, nn.Softmax(dim=1)).eval()
    path = folder / "model.onnx"
    batch_dimension = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        model,
        (inputs[:2],),
        path,
        dynamo=True,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes=(batch_dimension,),
        external_data=False,
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    held_out = images[test] / 16
    with torch.no_grad():
        torch_answers = model(torch.from_numpy(held_out)).numpy()
    onnx_answers = session.run(None, {"image": held_out})[0]
    for name, answers in (("torch", torch_answers), ("onnx", onnx_answers)):
        print(name, "accuracy", (answers.argmax(axis=1) == labels[test]).mean())
    print("largest difference", np.abs(torch_answers - onnx_answers).max())
    for size in (1, 32):
        start = time.perf_counter()
        for _ in range(50):
            session.run(None, {"image": held_out[:size]})
        print("batch", size, "mean ms", (time.perf_counter() - start) / 50 * 1000)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
