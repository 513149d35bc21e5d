"""Row 46: header bombs, overlapping offsets, truncated files. Refused with a sentence, never a crash."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.adapters import weights
from pipelines.errors import ArtifactError
from tests.releases import safetensors

HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I8", "shape": [5], "data_offsets": [24, 29]},
    "empty": {"dtype": "F16", "shape": [0, 4], "data_offsets": [29, 29]},
}
DATA = bytes(range(29))


def refused(file, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        weights.check(file)
    return str(caught.value)


def changed(**tensor):
    header = copy.deepcopy(HEADER)
    header["b"] |= tensor
    return safetensors(header, DATA)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


def test_a_sound_file_passes_here_and_in_the_library(file):
    from safetensors.numpy import load_file

    file.write_bytes(safetensors(HEADER, DATA))
    weights.check(file)
    assert load_file(file)["b"].tolist() == [24, 25, 26, 27, 28]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, 200, -1])
def test_row_46_a_truncated_file_is_refused(file, length):
    assert "is no sound safetensors file" in refused(file, safetensors(HEADER, DATA)[:length])


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 100])
def test_row_46_a_header_that_promises_more_than_there_is_is_refused_before_it_is_read(file, length):
    assert f"should have {length:,} bytes" in refused(file, length.to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"data_offsets": [20, 25]}, "hole or overlap at byte 20"),
        ({"data_offsets": [0, 5]}, "hole or overlap"),
        ({"data_offsets": [25, 30]}, "hole or overlap at byte 24"),
        ({"data_offsets": [24, 10**15], "shape": [10**15 - 24]}, "its tensors"),
        ({"data_offsets": [29, 24]}, "does not take"),
        ({"data_offsets": [-5, 0]}, "no count"),
        ({"shape": [2**40, 2**40]}, "does not take"),
        ({"shape": [5.0]}, "no count"),
        ({"shape": [True] * 5}, "no count"),
        ({"shape": "five"}, "no count"),
        ({"shape": [1] * 65 + [5]}, "no count"),
        ({"dtype": "PICKLE"}, "known dtype"),
        ({"dtype": None}, "known dtype"),
        ({"data_offsets": [24]}, "known dtype, shape or data_offsets"),
    ],
)
def test_row_46_tensors_that_lie_about_their_place_are_refused(file, tensor, words):
    assert words in refused(file, changed(**tensor))


@pytest.mark.parametrize(
    "header",
    [b"[" * 100_000, b"null", b"[]", b"\xff\xfe", b'{"a": 1}', b'{"a": {"dtype": "I8"}, "a": {}}', b"{" + b" " * 99],
)
def test_row_46_a_header_of_another_kind_is_refused(file, header):
    assert "is no sound safetensors file" in refused(file, safetensors(header))


def test_row_46_bytes_that_belong_to_no_tensor_are_refused(file):
    assert "its tensors take 29 bytes, but 33 follow" in refused(file, safetensors(HEADER, DATA + b"more"))


def test_row_46_a_folder_without_weights_is_no_model(tmp_path):
    with pytest.raises(ArtifactError, match="holds no safetensors file"):
        weights.check_folder(tmp_path)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_row_46_any_damage_is_refused_or_harmless(tmp_path_factory, data):
    """What passes here the library loads; what it does not load is refused here: neither ever crashes."""
    from safetensors import deserialize

    whole = bytearray(safetensors(HEADER, DATA))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.sampled_from([*b'0123456789"{}[],:- ', 0, 255]))
    cut = data.draw(st.sampled_from([None, None, data.draw(st.integers(0, len(whole)))]))
    content = bytes(whole[:cut])
    file = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    file.write_bytes(content)
    try:
        weights.check(file)
    except ArtifactError:
        return
    loaded = {name for name, _ in deserialize(content)}
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert loaded == set(header) - {"__metadata__"}
