"""Answers requests about pictures, videos and text.

This level is the interface: nouns, errors and the engine's one verb, standard library only.
`media` reads files, `checkpoint` reads a model's facts, `prompt` writes what the model reads,
`local` runs the model in this process.
"""
