import re
import shutil
import subprocess
import sys
import textwrap
from collections import namedtuple

import pytest
import torch

from pipelines.adapters import checkpoints
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.errors import ArtifactError, ResourceError

SECTIONS = {"seed": 7, "model": {"width": 8}}


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "input"
    file.write_text("data")
    return file


@pytest.fixture
def opened(tmp_path, source):
    def opening(sections=SECTIONS):
        return Checkpoints.opened("training", sections, [source], root=tmp_path / "checkpoints")

    return opening


def save(store, *steps):
    for step in steps:
        store.save(step, {"weight": torch.full((3,), float(step))}, {"note": f"at {step}"})


def test_what_is_saved_comes_back_as_it_was(opened):
    tensors = {"a": torch.randn(4, 3), "b": torch.arange(5, dtype=torch.uint8), "c": torch.randn(2).bfloat16()}
    with opened() as store:
        store.save(12, tensors, {"best": 0.1 + 0.2, "curve": [[1, None, 2.5]]})
        found = store.latest()
    assert found.step == 12
    assert found.values == {"best": 0.1 + 0.2, "curve": [[1, None, 2.5]]}
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())


def test_without_a_checkpoint_training_starts_afresh(opened):
    with opened() as store:
        assert store.latest() is None


def test_two_are_kept_and_the_newest_is_read(opened):
    with opened() as store:
        save(store, 5, 10, 15, 100)
        assert [item.name for item in sorted(store.folder.iterdir()) if item.is_dir()] == ["000000015", "000000100"]
        assert store.latest().step == 100


def test_they_are_found_again_by_a_later_run(opened):
    with opened() as store:
        save(store, 5)
    with opened() as store:
        assert store.latest().values == {"note": "at 5"}


def test_what_a_training_has_taken_adds_up_over_the_runs_that_go_on_with_it(opened, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    with opened() as store:
        now[0] += 50  # another training, for instance, that comes first
        assert store.latest() is None
        now[0] += 7
        save(store, 5)
        now[0] += 1000  # killed before the next checkpoint: this is lost
    with opened() as store:
        store.pin(0, {}, {})
        assert store.latest().seconds == 7
        now[0] += 3
        save(store, 10)
        assert store.seconds_before == 7
        assert store.pinned(0).values == {}
    with opened() as store:
        assert store.latest().values == {"note": "at 10"}
        assert store.seconds_before == 10


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_harmed_checkpoint_is_passed_over_with_a_warning(opened, name, harm):
    with opened() as store:
        save(store, 5, 10)
        file = store.folder / "000000010" / name
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        if harm == "remove":
            file.unlink()
        else:
            file.write_bytes(content if harm == "flip" else content[: len(content) // 2])
        with pytest.warns(UserWarning, match=rf"000000010/{name} is torn.* Going back to the checkpoint before it"):
            assert store.latest().step == 5


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state.json": '])
def test_a_torn_manifest_is_passed_over_too(opened, text):
    with opened() as store:
        save(store, 5, 10)
        (store.folder / "000000010" / "manifest.json").write_text(text)
        with pytest.warns(UserWarning, match="Going back"):
            assert store.latest().step == 5


def test_when_all_are_harmed_training_starts_afresh(opened):
    with opened() as store:
        save(store, 5, 10)
        for manifest in store.folder.rglob("manifest.json"):
            manifest.unlink()
        with pytest.warns(UserWarning, match="is missing"):
            assert store.latest() is None


def test_other_params_never_meet_old_state(opened):
    with opened() as store:
        save(store, 5)
    with opened({**SECTIONS, "seed": 8}) as store:
        assert store.latest() is None


def test_other_input_never_meets_old_state(opened, source):
    with opened() as store:
        save(store, 5)
    source.write_text("other data")
    with opened() as store:
        assert store.latest() is None


def test_checkpoints_of_other_params_are_told_of_and_go_when_this_training_has_finished(opened, capsys):
    with opened() as old:
        save(old, 5)
        old.pin(0, {"weight": torch.ones(1)}, {})
    assert capsys.readouterr().err == ""
    with opened({**SECTIONS, "seed": 8}) as store:
        assert re.fullmatch(
            r"training: starting anew: .*checkpoints/training holds checkpoints of other params or inputs, .*\n",
            capsys.readouterr().err,
        )
        save(store, 3)
        assert (old.folder / "000000005").is_dir()
    with opened({**SECTIONS, "seed": 8}) as store:
        assert re.match(r"training: .*checkpoints/training holds", capsys.readouterr().err)
        store.discard()
    assert [item.name for item in old.folder.iterdir()] == ["lock"]
    with opened():
        assert capsys.readouterr().err == ""


def test_checkpoints_of_other_params_stay_while_a_process_uses_them(opened):
    with opened() as other:
        save(other, 5)
        with opened({**SECTIONS, "seed": 8}) as store:
            store.discard()
        assert other.latest().step == 5


def test_checkpoints_that_a_training_of_other_params_leaves_meanwhile_stay(opened):
    with opened({**SECTIONS, "seed": 8}) as store:
        with opened() as other:
            save(other, 5)
        store.discard()
    with opened() as other:
        assert other.latest().step == 5


def test_stray_files_are_passed_over(opened, tmp_path):
    with opened() as store:
        save(store, 5)
        for name in (".DS_Store", "000000010", "000000007"):
            (store.folder / name).write_text("stray")
        (store.folder.parent / "notes").write_text("stray")
    with opened() as store:
        assert store.latest().step == 5
        save(store, 10)
        assert store.latest().step == 10
        store.discard()


def test_the_order_of_keys_does_not_matter(source):
    turned = dict(reversed(SECTIONS.items()))
    assert checkpoints.key("training", SECTIONS, [source]) == checkpoints.key("training", turned, [source])


def test_a_second_trainer_is_kept_out_and_told_who_is_in(tmp_path, source, opened):
    holder = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pipelines.adapters.checkpoints import Checkpoints
        root, source = map(Path, sys.argv[1:])
        with Checkpoints.opened("training", {"seed": 7, "model": {"width": 8}}, [source], root=root):
            print("in", flush=True)
            sys.stdin.readline()
        """
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "checkpoints"), str(source)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        with pytest.raises(ResourceError, match=rf"Process {process.pid} is running training"), opened():
            pass
        process.kill()
    with opened() as store:
        assert store.latest() is None


def test_what_a_killed_writer_left_is_swept_away(opened):
    with opened() as store:
        save(store, 5)
        left = store.folder / ".000000010.abc" / "000000010"
        left.mkdir(parents=True)
        (left / "state.safetensors").write_bytes(b"half")
    with opened() as store:
        assert store.latest().step == 5
        assert not left.parent.exists()


def test_when_the_outputs_are_safe_all_are_removed(opened):
    with opened() as store:
        save(store, 5, 10)
        store.discard()
        assert store.latest() is None
        assert not list(store.folder.rglob("*.safetensors"))


def test_too_small_a_disk_is_told_at_the_start_with_figures(opened, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 0, 5 * 2**20))
    with opened() as store:
        store.require_space(2**20)
        with pytest.raises(ResourceError, match=r"Checkpoints need 6 MiB below .* but 5 MiB are free"):
            store.require_space(2 * 2**20)


def test_the_figures_of_too_small_a_disk_differ(opened, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 0, 6 * 2**20 - 1))
    with opened() as store, pytest.raises(ResourceError, match=r"need 6 MiB below .* but 5 MiB are free"):
        store.require_space(2 * 2**20)


def test_a_disk_that_fills_up_leaves_the_checkpoints_before(opened, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with opened() as store:
        save(store, 5)
        monkeypatch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(ResourceError, match="No space for"):
            save(store, 10)
        assert store.latest().step == 5
        assert not list(store.folder.glob(".*"))


def test_what_is_pinned_outlives_the_checkpoints_that_come_and_go(opened):
    with opened() as store:
        store.pin(5, {"weight": torch.full((3,), 5.0)}, {"note": "kept"})
        save(store, 5, 10, 15, 20)
        found = store.pinned(5)
        assert store.latest().step == 20
    assert (found.step, found.values) == (5, {"note": "kept"})
    assert torch.equal(found.tensors["weight"], torch.full((3,), 5.0))


def test_pins_go_with_the_rest_when_the_outputs_are_safe(opened):
    with opened() as store:
        store.pin(5, {"weight": torch.ones(3)}, {})
        store.discard()
        assert [item.name for item in store.folder.iterdir()] == ["lock"]


def test_a_torn_pin_is_never_read(opened):
    with opened() as store:
        store.pin(5, {"weight": torch.ones(3)}, {})
        next(store.folder.rglob("state.safetensors")).write_bytes(b"torn")
        with pytest.raises(ArtifactError, match="torn"):
            store.pinned(5)
