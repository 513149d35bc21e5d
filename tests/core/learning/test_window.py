import gc
import weakref

import pytest

from tests.core.learning.test_llama_decoding import random_llama


@pytest.mark.parametrize("plain", [True, False])
def test_buffers_are_freed_with_their_window_and_do_not_wait_for_the_collection_of_garbage(plain):
    from torch import inference_mode, ones

    from pipelines.core.learning import llama_decoding
    from pipelines.core.learning.window import Window

    model = random_llama()
    gc.disable()
    try:
        with inference_mode():
            window = Window(model, 2, 8, llama_decoding.reader(model, 8) if plain else None)
            window.begin([3, 2])
            window.prefill(ones(2, 3, dtype=int))
        keys = weakref.ref(window._layers[0].keys)
        assert keys() is not None
        del window
        assert keys() is None
    finally:
        gc.enable()
