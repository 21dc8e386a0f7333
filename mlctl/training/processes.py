"""The processes that train one model together: what they sum, and what the leader hands to all."""

import json
import os
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store

from mlctl.digests import Json
from mlctl.errors import NoSuchDevice, StepFailed, UsageError
from mlctl.training.devices import resolve_device
from mlctl.training.meeting import lost_peers
from mlctl.training.places import Place

SIGNAL: Final = "signal"
LOOK_SECONDS: Final = 0.5
SILENCE: Final = timedelta(minutes=10)
"""How long a process waits for the others in the middle of a training."""


class Group:
    """The processes that train one model together; with `Group.alone()`, one process, nothing here does anything.

    Every process calls everything in the same order. Each has its part of every batch, and multiplies that part's mean
    loss by its share of the batch's samples and by `count`, since gradients are averaged over the processes. After
    backward all have the same gradients, so that all make the same step. The leader alone keeps checkpoints;
    restoring goes through `word` and `tensors`. A stage gets its group, and its device, from
    `mlctl.stages.peers.joined`.
    """

    def __init__(
        self,
        place: Place | None = None,
        store: Store | None = None,
        backend: str | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.rank = place.rank if place else 0
        self.count = place.count if place else 1
        self.backend = backend
        """gloo or nccl; None for one process."""
        self.device = device
        self._store = store
        self._looked = time.monotonic()
        self._has_told = False

    @classmethod
    def alone(cls) -> "Group":
        """One process."""
        return cls()

    @classmethod
    def joined(cls, place: Place, store: Store, device: torch.device) -> "Group":
        """The group of all processes that call this at the same time with the same `store`; they wait for each other.

        gloo on CPUs; NCCL between GPUs, with gloo for what lies on the host. Raises PeerLost where one does not come.
        """
        if place.local_count == place.count:
            # A machine's own name need not lead to any of its addresses.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with lost_peers():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=store,
                rank=place.rank,
                world_size=place.count,
                timeout=SILENCE,
            )
        return cls(place, store, backend, device)

    @property
    def is_leader(self) -> bool:
        """Whether this is the process that speaks and keeps checkpoints."""
        return self.rank == 0

    def wrap(self, network: nn.Module, example: tuple[Tensor, ...]) -> nn.Module:
        """`network`, whose backward then averages gradients over all processes; itself where there is only one.

        All take the leader's weights and, at every forward pass, its buffers: batch statistics are each process's own,
        running ones the leader's. `example` are inputs of the network [B, ...] on its device; they go through it once
        and leave no trace. Parameters are shared with `network`, which stays what is validated and stored.

        Raises StepFailed for a parameter that has no part in the outputs.
        """
        if self.count == 1:
            return network
        # It imports torch._dynamo, which takes longer than a short training.
        from torch.nn.parallel import DistributedDataParallel

        with lost_peers():
            wrapped = DistributedDataParallel(
                network, device_ids=[self.device] if self.device and self.device.type == "cuda" else None
            )
            _settle(wrapped, network, example)
        return wrapped

    def unsynced(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        """Within it, backward only adds up this process's gradients: for all parts of a batch but the last."""
        if self.count == 1:
            return nullcontext()
        context: AbstractContextManager[Any] = wrapped.no_sync()  # type: ignore[operator]
        return context

    def sum(self, values: Tensor) -> Tensor:
        """`values`, of any shape and number type, replaced in place by their sum over all processes."""
        if self.count > 1:
            with lost_peers():
                dist.all_reduce(values)
        return values

    def word(self, said: Json = None) -> Any:
        """What the leader says, in every process; what the others say is not heard. JSON values only."""
        if self.count == 1:
            return said
        text = json.dumps(said).encode() if self.is_leader else b""
        with lost_peers():
            size = torch.tensor([len(text)])
            dist.broadcast(size, 0)
            told = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(int(size)).byte()
            dist.broadcast(told, 0)
        return json.loads(bytes(told.numpy()))

    def tensors(self, given: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The leader's named tensors, on the host, in every process; the others give nothing."""
        if self.count == 1:
            return given or {}
        own = {name: tensor.detach().cpu().contiguous() for name, tensor in (given or {}).items()}
        outline = self.word([[name, str(each.dtype)[6:], list(each.shape)] for name, each in own.items()])
        found = {}
        with lost_peers():
            for name, dtype, shape in outline:
                tensor = own[name] if self.is_leader else torch.empty(shape, dtype=getattr(torch, dtype))
                # Bytes: gloo has no word for every type.
                dist.broadcast(tensor.reshape(-1).view(torch.uint8), 0)
                found[name] = tensor
        return found

    def obeyed(self, received: int | None) -> int | None:
        """The signal, if any, for which this process is to leave between two steps; `received` is what came here.

        Only the leader leaves so, after a checkpoint; a signal that came to another process is told to it, twice a
        second at most. The others go on until they find it gone, so that none waits for one that has left.
        """
        if self._store is None:
            return received
        with lost_peers():
            if not self.is_leader:
                if received is not None and not self._has_told:
                    self._store.set(SIGNAL, str(received))
                    self._has_told = True
                return None
            if received is None and time.monotonic() - self._looked >= LOOK_SECONDS:
                self._looked = time.monotonic()
                if self._store.check([SIGNAL]):
                    return int(self._store.get(SIGNAL))
        return received

    def leave(self) -> None:
        """Close the connections; at the end, and after a failure only when all that is to be told has been told."""
        if self.count > 1 and dist.is_initialized():
            with lost_peers():
                dist.destroy_process_group()


def device_at(asked: str, place: Place | None) -> torch.device:
    """The device that `asked` means for a process at `place`: of several on one machine, each takes a GPU of its own.

    Raises what `resolve_device` does, UsageError for one GPU for several processes, and NoSuchDevice for too few.
    """
    device = resolve_device(asked)
    if place is None or device.type != "cuda":
        return device
    if place.local_count > 1 and ":" in asked:
        raise UsageError(f"{asked} is one GPU for several processes", next="ask for `--device cuda`, one for each")
    if place.local_rank >= torch.cuda.device_count():
        raise NoSuchDevice(
            f"{place.local_count} processes, and CUDA devices found: {torch.cuda.device_count()}",
            next="start as many processes as there are GPUs, or choose `--device cpu`",
        )
    return device if ":" in asked else torch.device("cuda", place.local_rank)


def _settle(wrapped: nn.Module, network: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Run one pass through the wrapped network that changes nothing but the order in which gradients are summed.

    DistributedDataParallel orders its buckets anew after the first pass, and with three processes another order of
    buckets is another order of sums: without this, the first step after a resume would not be the same to the bit.
    """
    devices = [each.device.index for each in example if each.is_cuda]
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    was_training = network.training
    with torch.random.fork_rng(devices=devices):
        network.train()
        wrapped(*example).float().sum().backward()
        network.train(was_training)
    unused = [name for name, each in network.named_parameters() if each.requires_grad and each.grad is None]
    for name, buffer in network.named_buffers():
        buffer.copy_(before[name])
    network.zero_grad(set_to_none=True)
    if unused:
        raise StepFailed(
            f"{', '.join(unused)} has no part in the network's outputs, which several processes cannot train",
            next="take it out of the network, or train in one process",
        )
