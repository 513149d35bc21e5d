"""The machine as several processes share it."""

import os

import pytest
import torch

from pipelines.adapters import device
from pipelines.errors import ResourceError


@pytest.mark.parametrize(("cores", "local_size", "threads", "wanted"), [(8, 2, None, 4), (2, 3, None, 1), (8, 2, 3, 3)])
def test_processes_of_one_machine_share_its_cores(monkeypatch, cores, local_size, threads, wanted):
    given = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)))
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    device.prepare(1, threads, local_rank=0, local_size=local_size)
    assert given == [wanted]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    words = r"4 processes train together on this machine, which has 2 GPUs: lower pretraining\.processes"
    with pytest.raises(ResourceError, match=words):
        device.prepare(1, 1, local_rank=0, local_size=4)
