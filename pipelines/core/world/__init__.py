"""The built-in corpus "tales": a simulated world, its narration, its tasks, its gold scorer and its annotators."""
